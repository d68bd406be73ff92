import json
import signal
from pathlib import Path

import numpy as np
import pytest

from facerep_jax import cli
from facerep_jax.train.checkpoint import steps_in
from tests.processes import EVERY, SMOKE, STEPS, facerep, finish, here, ids, metrics, wait_for

POISON = '''
"""The tiny run with a transform that spoils some records."""

from facerep_jax.config import spec
from tests.test_replay import Spoil
from tests.train import tiny_config


def get_config(arg=None):
    config = tiny_config.get_config()
    with config.unlocked():
        config.steps = 6
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


def loss_in(output: str) -> float:
    return float(output.partition(" loss ")[2].split(",")[0])


@pytest.mark.parametrize("step", [2, 6])
def test_a_step_is_what_it_was(undisturbed, step):
    """Tried: the batch of the step after; the loss then differs. Before the first checkpoint it begins at the start."""
    status, output = replay(undisturbed, step)
    assert status == 0, output
    assert loss_in(output) == metrics(undisturbed)[step]["loss"]
    assert "loss and gradient are finite" in output
    assert steps_in(undisturbed) == [EVERY, 2 * EVERY, STEPS]


@pytest.mark.slow
def test_another_mesh_comes_to_the_same_loss(undisturbed):
    status, output = replay(undisturbed, 5, '--mesh={"replica": 2}')
    assert status == 0, output
    assert loss_in(output) == pytest.approx(metrics(undisturbed)[5]["loss"], rel=1e-5)


def test_the_records_that_spoilt_a_step_are_found_and_can_be_skipped(undisturbed_tiny, tmp_path):
    """Two records of the fifth step are spoilt."""
    bad = sorted(ids(undisturbed_tiny)[5][3:9:5])  # the order of records is that of the same seed
    (tmp_path / "config.py").write_text(POISON.format(ids=tuple(bad)))
    config, workdir = f"--config={tmp_path / 'config.py'}", tmp_path / "run"
    status, output = here("pretrain", workdir, config)
    assert status == 0, output
    lines = [json.loads(line) for line in (workdir / "nonfinite.jsonl").read_text().splitlines()]
    assert 5 in {line["step"] for line in lines}
    assert {name for line in lines for name in line["ids"]} >= set(bad)

    status, output = replay(workdir, 5)
    assert status == 1, output
    assert "loss nan" in output
    assert "first not finite: encoder/norm" in output, output
    path = workdir / "skip_ids.5.txt"
    assert sorted(path.read_text().split()) == bad
    assert f"--config.operational.skip_ids={path}" in output

    status, output = here("pretrain", tmp_path / "again", config, f"--config.operational.skip_ids={path}")
    assert status == 0, output
    assert not (tmp_path / "again" / "nonfinite.jsonl").exists()


@pytest.mark.slow
def test_a_run_that_is_going_on_is_left_alone(tmp_path):
    process = facerep(tmp_path, f"--config={SMOKE}", "--config.steps=100000")
    wait_for(lambda: 1 in metrics(tmp_path), process)
    status, output = replay(tmp_path, 1)
    process.send_signal(signal.SIGKILL)
    finish(process)
    assert status == 2
    assert "is in use by process" in output


def test_bad_input(undisturbed, tmp_path, capsys):
    assert cli.main(["facerep", "replay", f"--workdir={tmp_path}", "--step=3"]) == 2
    assert "has no config.json" in capsys.readouterr().err
    assert cli.main(["facerep", "replay", f"--workdir={undisturbed}", f"--step={STEPS + 1}"]) == 2
    assert f"is a run of {STEPS} steps; there is no step {STEPS + 1}" in capsys.readouterr().err
