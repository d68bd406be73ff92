"""The way that every pre-training goes: steps, a kill and a resume, another number of devices, a probe, a report."""

import json
from pathlib import Path

import numpy as np

from facerep_jax import cli
from facerep_jax.train import digests
from tests import processes

LABELLED = "generated_faces:size=48,train=32,validation=16,test=16"
FLAGS = ("--config.checkpoint_every=2", "--config.operational.keep_checkpoints=9")


def pretrain(config: str, workdir: Path, *flags: str) -> Path:
    """A run in this process, on the eight devices of the tests."""
    status, said = processes.here("pretrain", workdir, f"--config={config}", *FLAGS, *flags)
    assert status == 0, said
    return workdir


def assert_kill_and_resume_change_nothing(config: str, undisturbed: Path, workdir: Path, *flags: str) -> None:
    """A process that is killed behind its first checkpoint, and started again, ends as one that was left alone."""
    process = processes.facerep(workdir, f"--config={config}", *FLAGS, *flags)
    processes.wait_for(lambda: 2 in digests.sealed_steps(workdir / "checkpoints"), process)
    process.kill()
    processes.finish(process)
    assert digests.sealed_steps(workdir / "checkpoints") == [2], "nothing was left to resume"
    pretrain(config, workdir, *flags)
    processes.assert_equal_to_the_bit(workdir, undisturbed, 4)


def assert_one_device_comes_to_the_same(config: str, eight: Path, workdir: Path, *flags: str) -> None:
    """Losses of a run on one device are those of a run on eight."""
    status, said = processes.finish(processes.facerep(workdir, f"--config={config}", *FLAGS, *flags, devices=1))
    assert status == 0, said
    for step, values in processes.metrics(eight).items():
        np.testing.assert_allclose(processes.metrics(workdir)[step]["loss"], values["loss"], rtol=1e-4)


def probe(checkpoint: str | Path, workdir: Path, *flags: str, arg: str = "small,protocol=ridge") -> dict:
    """results.json of a short evaluation of landmarks, of which a report is made too."""
    where = (f"--config=configs/evaluate/landmarks.py:{arg}", f"--config.data.dataset={LABELLED}")
    short = ("--config.seeds=(0,)", "--config.baselines=()", "--config.fraction=1.0")
    flags = ("--config.devices=1", *flags)
    status, said = processes.here("evaluate", workdir, *where, f"--checkpoint={checkpoint}", *short, *flags)
    assert status == 0, said
    assert cli.main(["facerep", "report", str(workdir), f"--out={workdir / 'page'}"]) == 0
    assert (workdir / "page" / "report.html").stat().st_size > 10_000
    return json.loads((workdir / "results.json").read_text())
