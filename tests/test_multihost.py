"""Several processes of one run, over loopback: they see the same records and come to the same losses as one process."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from facerep_jax.train.checkpoint import steps_in
from tests.processes import SMOKE, facerep, finish, metrics, wait_for

pytestmark = pytest.mark.multihost

DEVICES = 4  # over all processes, so that the mesh is the same
STEPS = 24
FLAGS = (
    f"--config={SMOKE}",
    f"--config.steps={STEPS}",
    "--config.log_every=1",
    f"--config.checkpoint_every={STEPS // 2}",
    "--config.operational.sample_ledger=True",
)


def start(count: int, workdir: Path, *flags: str) -> list[subprocess.Popen[str]]:
    """The processes of one run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    who = (f"--coordinator={address}", f"--processes={count}")
    return [
        facerep(workdir, *FLAGS, *flags, *who, f"--process={index}", devices=DEVICES // count) for index in range(count)
    ]


def end(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    return [finish(process) for process in processes]


def run(count: int, workdir: Path, *flags: str) -> Path:
    for status, output in end(start(count, workdir, *flags)):
        assert status == 0, output
    return workdir


def ids(workdir: Path) -> dict[int, list[str]]:
    lines = [json.loads(line) for line in (workdir / "sample_ledger.jsonl").read_text().splitlines()]
    found = {line["step"]: line["ids"] for line in lines}
    assert all(line["ids"] == found[line["step"]] for line in lines)
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    return run(1, tmp_path_factory.mktemp("one"))


def assert_same(found: Path, expected: Path) -> None:
    assert ids(found) == ids(expected)
    assert sorted(metrics(found)) == sorted(metrics(expected)) == list(range(1, STEPS + 1))
    for step, values in metrics(found).items():
        assert values["loss"] == pytest.approx(metrics(expected)[step]["loss"], rel=1e-4)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_share_the_records_and_come_to_the_same_losses(one, tmp_path, count):
    """Tried: the same share of every batch for each process; ids and losses then differ."""
    run(count, tmp_path)
    assert_same(tmp_path, one)
    for step in (STEPS // 2, STEPS):
        names = {path.name for path in (tmp_path / "checkpoints" / str(step)).glob("digests*")}
        assert names == {f"digests.{index}-of-{count}.json" for index in range(count)}
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == STEPS  # one process writes


def test_sigterm_to_one_of_two_saves_in_both_and_one_alone_goes_on(one, tmp_path):
    """The second process is sent it; then one process ends what two began, and all is as if nothing had happened."""
    processes = start(2, tmp_path)
    wait_for(lambda: 2 in metrics(tmp_path), processes[0])
    processes[1].send_signal(signal.SIGTERM)
    outcomes = end(processes)
    assert [status for status, _ in outcomes] == [75, 75], outcomes
    step = steps_in(tmp_path)[-1]
    assert max(ids(tmp_path)) == step < STEPS
    assert f"saved step {step} after SIGTERM to one of the processes" in outcomes[0][1]
    run(1, tmp_path)
    assert_same(tmp_path, one)


def test_fewer_processes_than_expected_are_refused(tmp_path):
    ((status, output),) = end(start(1, tmp_path, "--config.operational.processes=2"))
    assert status == 2
    assert "operational.processes expects 2 processes and 1 appeared" in output
