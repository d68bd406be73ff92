"""launch/slurm.sbatch under real SLURM: a cluster of one machine, which only this machine can reach.

Needs Debian's packages slurm-wlm and munge, and nothing of their configuration. The cluster counts two GPUs that are
not there, so that `--per-gpu` starts two tasks, which compute on the CPU.
"""

import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facerep_jax.train.checkpoint import steps_in
from tests.processes import DEVICES, FLAGS, TINY, assert_equal_to_the_bit, ids, metrics

pytestmark = [pytest.mark.slow, pytest.mark.multihost]

ROOT = Path(__file__).parents[2]
SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
LONG = ("--config.steps=300", "--config.checkpoint_every=100")

CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
GresTypes=gpu
KillWait=120
MpiDefault=none
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=8 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands reach the cluster."""
    if missing := [name for name in PROGRAMS if not shutil.which(name, path=SBIN)]:
        pytest.skip(f"no {missing[0]}: apt-get install slurm-wlm munge")
    if not socket.gethostbyname(socket.gethostname()).startswith("127."):
        pytest.skip("SLURM would listen beyond this machine: its name stands for no loopback address")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")
    for index in range(2):
        (folder / f"gpu{index}").touch()
    names = dict(folder=folder, host=socket.gethostname(), ports=free_ports(2), user=getpass.getuser())
    (folder / "slurm.conf").write_text(CONF.format(**names))
    environment = {**os.environ, "PATH": SBIN, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{name}={folder}/munge.{ending}" for name, ending in MUNGE.items()]
    daemons = []
    with (folder / "daemons.log").open("w") as log:
        try:
            for argv in (["munged", "-F", "-f", *munge], ["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]):
                daemons.append(subprocess.Popen(argv, env=environment, stdout=log, stderr=log))
                until(lambda: (folder / "munge.socket").exists(), 30)
            idle = ["sinfo", "--noheader", "--format=%T"]
            until(lambda: subprocess.run(idle, env=environment, capture_output=True).stdout.strip() == b"idle", 60)
            assert {address for address in listening() if address[1] in names["ports"]} == {
                ("127.0.0.1", port) for port in names["ports"]
            }
            yield environment
        finally:
            if len(daemons) == 3:  # a test that failed may leave a job, which would outlive its cluster
                subprocess.run(["scancel", f"--user={names['user']}"], env=environment, timeout=60)
                queue = ["squeue", "--noheader"]
                until(lambda: not subprocess.run(queue, env=environment, capture_output=True).stdout.strip(), 180)
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(60)


MUNGE = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def listening() -> Iterator[tuple[str, int]]:
    """Addresses and ports on which something listens."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, port = local.split(":")
        if state == "0A":
            yield socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Job:
    """A pre-training of two tasks, submitted as docs/running_on_pods.md says."""

    def __init__(self, cluster: dict[str, str], workdir: Path):
        xla = os.environ["XLA_FLAGS"].replace(f"device_count={DEVICES}", f"device_count={DEVICES // 2}")
        self.environment, self.log = {**cluster, "XLA_FLAGS": xla}, workdir.with_suffix(".log")
        options = ("--parsable", "--gpus-per-node=2", "--time=60", f"--output={self.log}")
        flags = (f"--config={TINY}", f"--workdir={workdir}", *FLAGS, *LONG, "--config.operational.processes=2")
        self.number = self.say("sbatch", *options, "launch/slurm.sbatch", "--per-gpu", *flags).strip()

    def say(self, *argv: str) -> str:
        return subprocess.run(
            argv, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def show(self, key: str) -> str:
        return re.search(rf"\b{key}=(\S+)", self.say("scontrol", "show", "job", self.number))[1]

    def reaches(self, workdir: Path, step: int) -> None:
        until(lambda: step in metrics(workdir) or self.show("JobState") in ("FAILED", "COMPLETED", "CANCELLED"))
        assert self.show("JobState") == "RUNNING", self.log.read_text()


def test_a_job_that_is_signalled_saves_is_queued_again_and_ends_as_if_nothing_had_happened(cluster, tmp_path):
    job = Job(cluster, tmp_path / "run")
    job.reaches(tmp_path / "run", 3)
    job.say("scancel", "--signal=USR1", job.number)  # what `#SBATCH --signal=USR1@120` does before the time is up
    until(lambda: job.show("Restarts") == "1")
    (saved,) = [step for step in steps_in(tmp_path / "run") if step % 100]
    assert f"saved step {saved} after SIG" in job.log.read_text()
    until(lambda: job.show("JobState") not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"))
    assert job.show("JobState") == "COMPLETED", job.log.read_text()
    assert sorted(metrics(tmp_path / "run")) == list(range(1, 301))
    digests = {path.name for path in (tmp_path / "run" / "checkpoints" / "300").glob("digests*")}
    assert digests == {"digests.0-of-2.json", "digests.1-of-2.json"}
    again = Job(cluster, tmp_path / "undisturbed")
    until(lambda: again.show("JobState") == "COMPLETED")
    assert ids(tmp_path / "run") == ids(tmp_path / "undisturbed")
    assert_equal_to_the_bit(tmp_path / "run", tmp_path / "undisturbed", 300)


def test_a_job_that_is_cancelled_saves_and_is_not_queued_again(cluster, tmp_path):
    job = Job(cluster, tmp_path / "run")
    job.reaches(tmp_path / "run", 3)
    job.say("scancel", job.number)
    until(lambda: job.show("JobState") == "CANCELLED")
    until(lambda: "saved step" in job.log.read_text(), 60)
    assert job.show("Restarts") == "0"
    (step,) = steps_in(tmp_path / "run")
    assert f"saved step {step} after SIG" in job.log.read_text()
