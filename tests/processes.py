"""Runs of `facerep pretrain` as users start them: in processes of their own, one or several over loopback."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from facerep_jax import cli
from facerep_jax.train.state import flat
from facerep_jax.train.writer import lines_of

SMOKE = "configs/pretrain/farl.py:smoke"
TINY = "tests/train/tiny_config.py"
ROOT = Path(__file__).parent.parent
DEVICES = 8  # of a run, over all of its processes
STEPS, EVERY = 12, 4  # of a run, and between its checkpoints
# The steps and the average are part of the compiled step: tests that share them compile it once.
FLAGS = (
    f"--config.steps={STEPS}",
    "--config.log_every=1",
    "--config.ema=0.9",
    f"--config.checkpoint_every={EVERY}",
    "--config.operational.sample_ledger=True",
)
LONG = (f"--config={SMOKE}", *FLAGS)
STARTED: list[subprocess.Popen[str]] = []


def facerep(workdir: Path, *flags: str, devices: int = DEVICES, command: str = "pretrain") -> subprocess.Popen[str]:
    xla = os.environ["XLA_FLAGS"].replace(f"device_count={DEVICES}", f"device_count={devices}")
    env = {**os.environ, "XLA_FLAGS": xla}
    process = subprocess.Popen(
        [sys.executable, "-m", "facerep_jax.cli", command, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    STARTED.append(process)
    return process


def finish(process: subprocess.Popen[str], seconds: float = 900) -> tuple[int, str]:
    out, err = process.communicate(timeout=seconds)
    if process in STARTED:
        STARTED.remove(process)
    return process.returncode, out + err


def here(command: str, workdir: Path, *flags: str) -> tuple[int, str]:
    """A command in this process, which starts sooner. What absl logs is not in its output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = cli.main(["facerep", command, f"--workdir={workdir}", *flags])
    return status, out.getvalue()


def metrics(workdir: Path) -> dict[int, dict[str, float]]:
    """Of each step, the last that was written."""
    return {line["step"]: line for line in lines_of(workdir)}


def saved(workdir: Path, step: int) -> dict[str, np.ndarray]:
    folder = workdir / "checkpoints" / str(step) / "state"
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    checkpointer = ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(folder).item_metadata.tree
    args = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(sharding=sharding), tree)
    restored = checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=args))
    return {path: np.asarray(leaf) for path, leaf in flat(restored).items()}


def assert_equal_to_the_bit(found: Path, expected: Path, step: int) -> None:
    """The saved states of two runs."""
    there, here = saved(found, step), saved(expected, step)
    assert there.keys() == here.keys()
    for path, array in here.items():
        np.testing.assert_array_equal(there[path], array, err_msg=path)


def end_all() -> None:
    """End what a test that failed left running."""
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start(count: int, workdir: Path, *flags: str, config: str = SMOKE) -> list[subprocess.Popen[str]]:
    """The processes of one run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    who = (f"--coordinator={address}", f"--processes={count}")
    return [
        facerep(workdir, f"--config={config}", *FLAGS, *flags, *who, f"--process={index}", devices=DEVICES // count)
        for index in range(count)
    ]


def end(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    return [finish(process) for process in processes]


def run(count: int, workdir: Path, *flags: str, config: str = SMOKE) -> Path:
    for status, output in end(start(count, workdir, *flags, config=config)):
        assert status == 0, output
    return workdir


def ids(workdir: Path) -> dict[int, list[str]]:
    lines = [json.loads(line) for line in (workdir / "sample_ledger.jsonl").read_text().splitlines()]
    found = {line["step"]: line["ids"] for line in lines}
    assert all(line["ids"] == found[line["step"]] for line in lines)
    return found


def assert_same(found: Path, expected: Path, steps: int = STEPS) -> None:
    assert ids(found) == ids(expected)
    assert sorted(metrics(found)) == sorted(metrics(expected)) == list(range(1, steps + 1))
    for step, values in metrics(found).items():
        assert values["loss"] == pytest.approx(metrics(expected)[step]["loss"], rel=1e-4)
