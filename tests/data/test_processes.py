import os
import subprocess
import sys
import time

import numpy as np
import psutil

from facerep_jax.data import processes
from facerep_jax.data.datasets import generated_faces

PARENT = """
import multiprocessing, time
from facerep_jax.data.processes import end_with_parent

def work():
    end_with_parent()
    time.sleep(60)

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_processes_give_what_one_process_gives(monkeypatch):
    plan = generated_faces.plan(generated_faces.read("size=32,train=5,validation=0,test=0", None))
    alone = list(map(plan.example, plan.records["train"]))
    before = dict(os.environ)
    monkeypatch.setattr(processes, "FEW", 0)
    together = list(processes.mapped(plan.example, plan.records["train"]))
    assert dict(os.environ) == before
    assert [key for key, _ in together] == [key for key, _ in alone]
    for (_, a), (_, b) in zip(alone, together, strict=True):
        assert a["image"] == b["image"]
        assert a["mask"] == b["mask"]
        np.testing.assert_array_equal(a["vertices"], b["vertices"])


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    """Planted and seen red: a worker that does not watch."""
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        time.sleep(3)  # for its start
        assert worker.is_running()
        parent.kill()
        assert psutil.wait_procs([worker], timeout=20)[1] == []


def test_a_process_that_nobody_started_goes_on():
    processes.end_with_parent()
