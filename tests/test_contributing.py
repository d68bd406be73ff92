"""Recipes of CONTRIBUTING.md run as they stand: their files in a copy of the repository, their tests, their commands.

Planted and seen red: a function that was renamed, in a recipe; a config that lacks a key.
"""

import json
import math
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


@pytest.mark.slow
def test_the_text_of_their_defaults_is_kept_by_the_command(copy):
    status, said = run(copy, "tests.configs.golden")
    assert status == 0, said
    status, said = run(copy, "pytest", "-q", "-p", "no:cacheprovider", "tests/configs/test_golden.py")
    assert status == 0, said
    assert {f"{path.split('/')[1]}_{Path(path).stem}.json" for path in CONFIGS} <= {
        path.name for path in (copy / "tests/configs/golden").iterdir()
    }


@pytest.mark.slow
def test_their_pretraining_takes_two_steps_on_drawn_faces(copy):
    (path,) = (path for path in CONFIGS if path.startswith("configs/pretrain/"))
    (command,) = COMMAND.findall(FILES[path].replace("\nfacerep", "\n    facerep"))
    words = shlex.split(command.replace("dataset=manifest/faces", "variant=Nano/16,size=48,steps=2"))
    drawn = "--config.data.dataset=generated_faces:size=48,train=32,validation=0,test=0"
    status, said = run(
        copy, "facerep_jax.cli", *words[1:], drawn, "--config.data.batch_size=16", "--config.log_every=1"
    )
    assert status == 0, said
    losses = [json.loads(line)["loss"] for line in (copy / words[-1] / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
