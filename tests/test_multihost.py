"""Several processes of one run, over loopback: they see the same records and come to the same losses as one process."""

import signal

import pytest

from facerep_jax.train.checkpoint import steps_in
from tests.processes import EVERY, SMOKE, STEPS, TINY, assert_same, end, here, ids, metrics, run, start, wait_for

pytestmark = pytest.mark.multihost


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_records_and_come_to_the_same_losses(undisturbed, tmp_path, count):
    """Tried: the same share of every batch for each process; ids and losses then differ."""
    run(count, tmp_path)
    assert_same(tmp_path, undisturbed)
    for step in (EVERY, STEPS):
        names = {path.name for path in (tmp_path / "checkpoints" / str(step)).glob("digests*")}
        assert names == {f"digests.{index}-of-{count}.json" for index in range(count)}
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == STEPS  # one process writes


def test_sigterm_to_one_of_two_saves_in_both_and_one_alone_goes_on(tmp_path):
    """The second process is sent it; then one process ends what two began, and all is as if nothing had happened.

    Tried: a stop of the first process alone; the other then waits for it.
    """
    steps = 120  # ten times as many as were seen to pass before the processes had agreed to stop
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    many = (f"--config.steps={steps}", "--config.optimizer.learning_rate=1e-3")  # as far as the other tests' twelve go
    run(1, undisturbed, *many, config=TINY)
    processes = start(2, stopped, *many, config=TINY)
    wait_for(lambda: 1 in metrics(stopped), processes[0])
    processes[1].send_signal(signal.SIGTERM)
    outcomes = end(processes)
    assert [status for status, _ in outcomes] == [75, 75], outcomes
    step = steps_in(stopped)[-1]
    assert max(ids(stopped)) == step < steps
    assert f"saved step {step} after SIGTERM to one of the processes" in outcomes[0][1]
    names = {path.name for path in (stopped / "checkpoints" / str(step)).glob("digests*")}
    assert names == {"digests.0-of-2.json", "digests.1-of-2.json"}
    run(1, stopped, *many, config=TINY)
    assert len((stopped / "metrics.jsonl").read_text().splitlines()) == steps  # one process writes
    assert_same(stopped, undisturbed, steps)


@pytest.mark.slow
def test_weights_of_a_workdir_are_taken_over_by_several_processes(tmp_path):
    """Tried: the first process restores them with orbax's barrier, at which it waits for the others in vain."""
    dvae = tmp_path / "dvae"
    status, output = here("pretrain", dvae, "--config=configs/pretrain/dvae.py:smoke")
    assert status == 0, output
    run(2, tmp_path / "run", config=f"{SMOKE},tokenizer=dvae,weights={dvae}")
    assert STEPS in metrics(tmp_path / "run")


def test_fewer_processes_than_expected_are_refused(tmp_path):
    ((status, output),) = end(start(1, tmp_path, "--config.operational.processes=2", config=TINY))
    assert status == 2
    assert "operational.processes expects 2 processes and 1 appeared" in output
