"""Recipes of CONTRIBUTING.md run as they stand: their files in a copy of the repository, their tests, their commands.

Planted and seen red: a function that was renamed, in a recipe; a config that lacks a key.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILE = re.compile(r"^`([\w/]+\.py)`\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^    (facerep .*)$", re.MULTILINE)
FILES = dict(FILE.findall(TEXT))
TESTS = [path for path in FILES if path.startswith("tests/")]
CONFIGS = [path for path in FILES if path.startswith("configs/")]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository with the files of all recipes in their places."""
    folder = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("facerep_jax", "configs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, content in FILES.items():
        assert not (folder / path).exists(), f"{path} is a file of the repository"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def run(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    return done.returncode, done.stdout[-4000:] + done.stderr[-2000:]


def test_every_recipe_has_a_module_a_test_and_a_command():
    packages = {path.rpartition("/")[0] for path in FILES}
    assert {"facerep_jax/objectives", "facerep_jax/evaluation/tasks", "facerep_jax/data/datasets"} <= packages
    assert len(TESTS) >= 3
    assert len(CONFIGS) >= 2
    assert COMMAND.findall(TEXT)


def test_their_tests_pass(copy):
    status, said = run(copy, "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS)
    assert status == 0, said


def test_tests_of_configs_cover_theirs_untouched(copy):
    names = " or ".join(Path(path).stem for path in CONFIGS)
    status, said = run(
        copy, "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/configs/test_configs.py", "-k", names
    )
    assert status == 0, said


@pytest.mark.slow
def test_their_commands_run(copy):
    for command in COMMAND.findall(TEXT):
        if "photographs" in command:  # of nobody's
            continue
        status, said = run(copy, "facerep_jax.cli", *shlex.split(command)[1:])
        assert status == 0, f"{command}\n{said}"
