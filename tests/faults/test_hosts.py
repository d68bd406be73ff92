"""One of two hosts stalls, or is gone: the run waits, or all end, and what is started again goes on."""

import signal
import time

import pytest

from facerep_jax.train.checkpoint import steps_in
from tests.processes import assert_same, end, finish, metrics, run, start, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.multihost]


def test_a_host_that_stalls_for_a_while_holds_the_run_up_and_no_more(undisturbed, tmp_path):
    """Tried: hosts that are taken for lost after three seconds; all then end."""
    processes = start(2, tmp_path)
    wait_for(lambda: 2 in metrics(tmp_path), processes[0])
    processes[1].send_signal(signal.SIGSTOP)
    time.sleep(5)
    before = max(metrics(tmp_path))
    time.sleep(5)
    assert max(metrics(tmp_path)) == before  # it waits
    processes[1].send_signal(signal.SIGCONT)
    assert [status for status, _ in end(processes)] == [0, 0]
    assert_same(tmp_path, undisturbed)


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL], ids=["stalls", "is gone"])
@pytest.mark.parametrize("host", [0, 1])
def test_a_host_that_is_lost_ends_the_others_and_the_run_goes_on_when_started_again(undisturbed, tmp_path, host, fault):
    """The others end within three minutes, and say that another process died.

    Tried: hosts that are taken for lost after a quarter of an hour; the other then still waits.
    """
    processes = start(2, tmp_path, "--config.checkpoint_every=1")
    wait_for(lambda: len(steps_in(tmp_path)) > 1, processes[0])
    processes[host].send_signal(fault)
    status, output = finish(processes[1 - host], seconds=180)
    assert status not in (0, 2, 75), output
    assert "another task died" in output or "heartbeat" in output, output
    processes[host].send_signal(signal.SIGKILL)
    finish(processes[host])
    run(1, tmp_path)
    assert_same(tmp_path, undisturbed)
