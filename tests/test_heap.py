"""Freed memory is used again rather than mapped anew."""

import os
import subprocess
import sys

import pytest

from facerep_jax import heap

FAULTS = """
import resource, sys
import numpy as np
from facerep_jax import heap
if "keep" in sys.argv:
    assert heap.keep()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(2**23)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", FAULTS, *arguments]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif((os.cpu_count() or 1) > heap.CORES, reason="a large host keeps nothing")
def test_a_second_step_faults_no_pages():
    assert faults("keep") < faults() / 20


def test_large_hosts_and_users_who_set_it_are_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert not heap.keep()
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    monkeypatch.setattr(os, "cpu_count", lambda: heap.CORES + 1)
    assert not heap.keep()
