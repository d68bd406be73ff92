import json
import signal
from pathlib import Path

import numpy as np
import pytest

from facerep_jax import cli
from facerep_jax.train.checkpoint import steps_in
from tests.processes import SMOKE, facerep, finish, here, metrics, wait_for

POISON = '''
"""The smoke run with a transform that spoils some records."""

from configs.pretrain.farl import get_config as farl
from facerep_jax.config import spec
from tests.test_replay import Spoil


def get_config(arg=None):
    config = farl("smoke")
    with config.unlocked():
        config.steps = 9
        config.checkpoint_every = 3
        config.data.transforms = (*config.data.transforms, spec(Spoil, ids={ids!r}))
    return config
'''


class Spoil:
    """Gives some records pixels that are no numbers."""

    reads = None

    def __init__(self, *, ids: tuple[str, ...]):
        self.ids = ids

    def __call__(self, example, rng):
        image = example["image"].astype(np.float32)
        if example["id"].decode() in self.ids:
            image[3, 4] = np.nan
        return {**example, "image": image}


def replay(workdir: Path, step: int, *more: str) -> tuple[int, str]:
    return here("replay", workdir, f"--step={step}", *more)


def replay_alone(workdir: Path, step: int) -> tuple[int, str]:
    """In a process of its own, which checks no types: spoilt images are not what the tokenizer is declared to take."""
    return finish(facerep(workdir, f"--step={step}", command="replay"))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """A run of nine steps, saved after every third."""
    workdir = tmp_path_factory.mktemp("run")
    flags = ("--config.steps=9", "--config.checkpoint_every=3", "--config.operational.sample_ledger=True")
    status, output = here("pretrain", workdir, f"--config={SMOKE}", *flags)
    assert status == 0, output
    return workdir


def loss_in(output: str) -> float:
    return float(output.partition(" loss ")[2].split(",")[0])


@pytest.mark.parametrize("step", [2, 6])
def test_a_step_is_what_it_was(workdir, step):
    """Tried: the batch of the step after; the loss then differs. Before the first checkpoint it begins at the start."""
    status, output = replay(workdir, step)
    assert status == 0, output
    assert loss_in(output) == metrics(workdir)[step]["loss"]
    assert "loss and gradient are finite" in output
    assert steps_in(workdir) == [3, 6, 9]


@pytest.mark.slow
def test_another_mesh_comes_to_the_same_loss(workdir):
    status, output = replay(workdir, 5, '--mesh={"replica": 2}')
    assert status == 0, output
    assert loss_in(output) == pytest.approx(metrics(workdir)[5]["loss"], rel=1e-5)


@pytest.fixture(scope="module")
def spoilt(workdir, tmp_path_factory) -> tuple[Path, list[str], list[str]]:
    """A run in which two records of the fifth step are spoilt, their ids, and the flags of that run."""
    ledger = [json.loads(line) for line in (workdir / "sample_ledger.jsonl").read_text().splitlines()]
    ids = sorted(ledger[4]["ids"][3:9:5])
    folder = tmp_path_factory.mktemp("spoilt")
    (folder / "config.py").write_text(POISON.format(ids=tuple(ids)))
    flags = [f"--config={folder / 'config.py'}"]
    status, output = finish(facerep(folder / "run", *flags))
    assert status == 0, output
    return folder / "run", ids, flags


def test_the_records_that_spoilt_a_step_are_found_and_can_be_skipped(spoilt, tmp_path):
    workdir, ids, flags = spoilt
    lines = [json.loads(line) for line in (workdir / "nonfinite.jsonl").read_text().splitlines()]
    assert 5 in {line["step"] for line in lines}
    assert {name for line in lines for name in line["ids"]} >= set(ids)

    status, output = replay_alone(workdir, 5)
    assert status == 1, output
    assert "loss nan" in output
    assert "first not finite: encoder/embed" in output, output
    path = workdir / "skip_ids.5.txt"
    assert sorted(path.read_text().split()) == ids
    assert f"--config.operational.skip_ids={path}" in output

    status, output = finish(facerep(tmp_path, *flags, f"--config.operational.skip_ids={path}"))
    assert status == 0, output
    assert not (tmp_path / "nonfinite.jsonl").exists()


@pytest.mark.slow
def test_a_run_that_is_going_on_is_left_alone(tmp_path):
    process = facerep(tmp_path, f"--config={SMOKE}", "--config.steps=100000")
    wait_for(lambda: 1 in metrics(tmp_path), process)
    status, output = replay(tmp_path, 1)
    process.send_signal(signal.SIGKILL)
    finish(process)
    assert status == 2
    assert "is in use by process" in output


def test_bad_input(workdir, tmp_path, capsys):
    assert cli.main(["facerep", "replay", f"--workdir={tmp_path}", "--step=3"]) == 2
    assert "has no config.json" in capsys.readouterr().err
    assert cli.main(["facerep", "replay", f"--workdir={workdir}", "--step=10"]) == 2
    assert "is a run of 9 steps; there is no step 10" in capsys.readouterr().err
