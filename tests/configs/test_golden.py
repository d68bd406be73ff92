"""Planted and seen red: a learning rate changed in a config, a config without its text, a text without its config."""

from tests.configs import golden

COMMAND = "python -m tests.configs.golden"


def test_no_default_changes_without_its_text():
    now, kept = golden.texts(), {path: path.read_text() for path in golden.FOLDER.glob("*.json")}
    assert {path.name for path in now} == {path.name for path in kept}, f"run {COMMAND}"
    for path, text in now.items():
        assert text == kept[path], f"a default changed; if that is meant, run {COMMAND}"
