import os
import re
import subprocess
import sys
import threading

import jax
import pytest

from facerep_jax.train import distributed
from facerep_jax.train.clusters import Place


def test_one_process_needs_nobody():
    distributed.initialize()
    assert distributed.alone()
    assert distributed.first()
    assert distributed.anyone(True)
    assert not distributed.anyone(False)
    assert distributed.same_as_first(True)
    assert distributed.total(a=3, b=4) == {"a": 3, "b": 4}
    assert not distributed.preempted(1)


def test_what_the_first_raises_is_raised():
    def fails():
        raise FileNotFoundError("no such file")

    with pytest.raises(FileNotFoundError, match="no such file"):
        distributed.by_first("a step", fails)


@pytest.mark.parametrize("given", [dict(coordinator="127.0.0.1:1"), dict(processes=2), dict(process=0)])
def test_half_a_description_is_refused(given):
    with pytest.raises(ValueError, match="give all three or none"):
        distributed.initialize(**given)


def test_processes_are_counted_from_zero():
    with pytest.raises(ValueError, match="less than --processes=2, not 2"):
        distributed.initialize("127.0.0.1:1", 2, 2)


def test_fewer_processes_than_expected_are_refused():
    with pytest.raises(ValueError, match="expects 4 processes and 1 appeared"):
        distributed.initialize(expected=4)


@pytest.fixture
def joining(monkeypatch):
    """Stands for jax's way of joining, and takes down what it was asked for."""
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *words, **named: asked.append((words, named)))
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setenv(distributed.UNPROXIED, "")
    monkeypatch.setattr(distributed.clusters, "found", lambda: Place("SLURM", "10.0.0.1:61500", 8, 3, range(2, 4)))
    return asked


def test_a_process_joins_its_cluster_with_the_gpus_that_are_its_own(joining):
    distributed.initialize()
    ((words, named),) = joining
    assert words == ("10.0.0.1:61500", 8, 3)
    assert named["local_device_ids"] == range(2, 4)
    assert named["cluster_detection_method"] == "deactivate"


def test_flags_come_before_the_cluster(joining):
    distributed.initialize("10.0.0.2:5", 2, 1)
    ((words, named),) = joining
    assert words == ("10.0.0.2:5", 2, 1)
    assert named["local_device_ids"] is None


@pytest.mark.parametrize("named", [dict(expected=1), dict(coordinator="10.0.0.2:5", processes=1, process=0)])
def test_who_is_to_be_alone_joins_nobody(joining, named):
    distributed.initialize(**named)
    assert joining == []


def test_a_proxy_is_kept_out(joining, monkeypatch):
    monkeypatch.setenv("no_proxy", "localhost")
    distributed.initialize()
    assert os.environ[distributed.UNPROXIED] == "localhost,10.0.0.1"


def test_others_that_do_not_appear_are_waited_for_a_stated_number_of_seconds(joining, monkeypatch, caplog):
    never = threading.Event()
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: never.wait(30))
    monkeypatch.setattr(distributed, "QUIET", 0.05)
    message = r"^the other 7 of 8 processes of SLURM did not all appear at 10.0.0.1:61500 within 0.2 s .*processes=1$"
    with pytest.raises(ValueError, match=message):
        distributed.initialize(patience=0.2)
    assert "waiting for the other 7 of 8 processes of SLURM at 10.0.0.1:61500, at most 0.2 s in all" in caplog.text
    never.set()


def test_what_jax_says_of_a_failure_is_passed_on(joining, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("address already in use")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(ValueError, match=r"cannot be joined at 10.0.0.1:61500: address already in use"):
        distributed.initialize()


JOIN = """
import sys
from facerep_jax.train import distributed
distributed.QUIET = 60
try:
    distributed.initialize(patience=float(sys.argv[1]))
except ValueError as error:
    sys.exit(str(error))
import jax
print(jax.process_count(), distributed.anyone(distributed.first()))
"""


def task(job, rank, patience):
    """A process that SLURM starts as one of two."""
    slurm = dict(SLURM_JOB_ID=job, SLURM_STEP_NODELIST="localhost", SLURM_NTASKS="2", SLURM_LOCALID=rank)
    slurm |= dict(SLURM_PROCID=rank, http_proxy="http://10.255.255.1:3128", CUDA_VISIBLE_DEVICES="0,1")
    streams = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, "-c", JOIN, patience], env={**os.environ, **slurm}, **streams)


@pytest.mark.multihost
def test_the_tasks_of_one_srun_find_each_other_in_spite_of_a_proxy():
    """Tried: without `keep_proxies_out`, they do not."""
    job = str(os.getpid())
    processes = [task(job, rank, "60") for rank in "01"]
    for process in processes:
        out, err = process.communicate(timeout=180)
        assert (process.returncode, "2 True" in out.splitlines()) == (0, True), (out, err)


@pytest.mark.multihost
@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_others_that_do_not_appear_one_line_is_said(rank):
    """Tried: without `forget`, jax adds a page at the end of the first process."""
    process = task(str(os.getpid() + 7), rank, "0.5")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert re.fullmatch(
        r"the other 1 of 2 processes of SLURM did not all appear at localhost:\d+ within 0.5 s .*\n", err
    )


def test_no_time_to_wait_is_refused():
    with pytest.raises(ValueError, match=r"operational.join_seconds is above 0, not 0"):
        distributed.initialize(patience=0.0)


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1:80", True), ("[::1]:80", True), ("localhost:80", True), ("10.0.0.3:80", False), ("host:80", False)],
)
def test_addresses_of_this_machine_alone(address, own):
    assert distributed.loopback(address) == own
