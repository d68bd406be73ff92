"""Studies of data run through with their smoke arguments, controls included; in this process, which saves imports."""

import contextlib
import json

import pytest

from facerep_jax import cells, cli

SMOKES = {
    "data_size": ("attributes_64", "attributes_128", "labels_at_random"),
    "data_quality": ("identity_curated_64", "attributes_uncurated", "labels_at_random"),
    "video_redundancy": ("attributes", "labels_at_random"),
}


def in_this_process(arguments, log, variables):
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        return cli.main(["facerep", *arguments, *(["--config.devices=1"] if arguments[0] == "evaluate" else [])])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOKES)
def test_smoke(name, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "execute", in_this_process)
    assert cli.main(["facerep", "study", name, f"--config=configs/study/{name}.py:smoke", f"--out={tmp_path}"]) == 0
    found = json.loads((tmp_path / name / "study.json").read_text())
    assert {score["encoder"] for score in found["scores"]} >= {"random", *SMOKES[name]}
    assert {score["evaluation"] for score in found["scores"]} >= {"permuted", "full"}  # the controls
    assert all(curve["values"] for curve in found["curves"])
    assert "Score against data" in (tmp_path / name / "study.html").read_text()
    assert "#### Scores against data" in (tmp_path / name / "study.md").read_text()
