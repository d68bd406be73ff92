"""Kills at any step, on any number of hosts and prefetching threads and workers: in the end, as if nobody had.

Real processes, killed as a node that fails kills them.
"""

import signal

import numpy as np
import pytest

from facerep_jax.train.checkpoint import steps_in
from facerep_jax.train.writer import lines_of
from tests.processes import EVERY, STEPS, assert_equal_to_the_bit, assert_same, finish, run, start, wait_for


def killed(workdir, rng, counts):
    """Start the run, on some number of processes, and kill all of them at some step that it has not done yet."""
    begun, count = len(lines_of(workdir)), int(rng.choice(counts))
    first = (steps_in(workdir) or [0])[-1]
    at = int(rng.integers(first + 1, STEPS)) if first < STEPS - 1 else STEPS
    workers = f"--config.operational.workers={rng.integers(0, 2)}"
    threads = f"--config.operational.threads={rng.integers(1, 9)}"
    processes = start(count, workdir, workers, threads)
    try:
        wait_for(lambda: any(line["step"] >= at for line in lines_of(workdir)[begun:]), processes[0])
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            finish(process)
    whole = steps_in(workdir)
    assert max(line["step"] for line in lines_of(workdir)) - (whole[-1] if whole else 0) <= 2 * EVERY


@pytest.mark.slow
def test_killed_on_two_hosts_and_on_one_it_ends_as_if_nobody_had(undisturbed, tmp_path):
    """Tried: a position in the data that is not restored; a step that is taken again then sees other records."""
    rng = np.random.default_rng(0)
    killed(tmp_path, rng, [2])
    run(1, tmp_path)
    assert_same(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_five_times_it_ends_as_if_nobody_had(undisturbed, tmp_path, seed):
    """Twenty kills in all; even seeds stay on one host, where states are equal to the bit."""
    rng = np.random.default_rng(100 + seed)
    for _ in range(5):
        killed(tmp_path, rng, [1, 2] if seed % 2 else [1])
    run(1, tmp_path)
    assert_same(tmp_path, undisturbed)
    if not seed % 2:
        assert_equal_to_the_bit(tmp_path, undisturbed, STEPS)
