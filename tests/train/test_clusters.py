"""What each launcher's environment means: how many processes there are, which this is, and which GPUs are its own."""

import os
import re

import pytest

from facerep_jax.train import clusters
from facerep_jax.train.clusters import Place, found

LAUNCHERS = re.compile(r"SLURM|OMPI|PMI|JAX_(COORDINATOR|LOCAL)|KUBERNETES|JOB_COMPLETION|CUDA_VIS|ROCR_VIS|HIP_VIS")
EIGHT = {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """No cluster, no terminal, no GPU."""
    for variable in [name for name in os.environ if LAUNCHERS.match(name)]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(clusters, "_at_a_terminal", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def environment(monkeypatch):
    def enter(*parts, **more):
        for part in (*parts, more):
            for variable, value in part.items():
                monkeypatch.setenv(variable, str(value))

    return enter


def slurm(tasks=2, rank=0, local=0, nodes="node[1-2]"):
    return dict(SLURM_JOB_ID=17, SLURM_STEP_NODELIST=nodes, SLURM_NTASKS=tasks, SLURM_PROCID=rank, SLURM_LOCALID=local)


def open_mpi(size=2, rank=0, local=0, on_node=1):
    named = dict(SIZE=size, RANK=rank, LOCAL_RANK=local, LOCAL_SIZE=on_node)
    return {f"OMPI_COMM_WORLD_{name}": value for name, value in named.items()}


FOUR = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}
FIVE = {"PRTE_LAUNCHED": 1, "PMIX_NAMESPACE": "prterun-gpu-node-3-4711@1"}


def where(place):
    return place.processes, place.process, None if place.gpus is None else list(place.gpus)


def test_without_a_launcher_a_process_is_alone():
    assert found() is None


@pytest.mark.parametrize("gpus", [{}, EIGHT])
@pytest.mark.parametrize(
    "started",
    [
        slurm(tasks=1, nodes="node1"),
        open_mpi(size=1) | FOUR,
        open_mpi(size=1) | FIVE,
        slurm(tasks=8, nodes="node1") | {"SLURM_STEP_NUM_TASKS": 1},  # a shell of salloc: its step has one task
        {"SLURM_JOB_ID": 17, "SLURM_NTASKS": 8, "SLURM_PROCID": 0, "SLURM_LOCALID": 0},  # a batch script without srun
        {"SLURM_JOB_ID": 17, "SLURM_STEP_NODELIST": "node1", "SLURM_PROCID": 0, "SLURM_LOCALID": 0},  # ssh into a job
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},  # a pod of a notebook
    ],
)
def test_one_process_is_alone_and_has_all_gpus(environment, started, gpus):
    """jax shows the first three only the first GPU, and waits for others in the fourth."""
    environment(started, gpus)
    assert found() is None


def test_a_shell_of_an_allocation_is_alone(environment, monkeypatch):
    """As of `srun --pty -n 8 bash`: the other seven shells ended at once."""
    environment(slurm(tasks=8, nodes="node1"))
    assert found().processes == 8
    monkeypatch.setattr(clusters, "_at_a_terminal", lambda: True)
    assert found() is None


@pytest.mark.parametrize("starter", [slurm(rank=1), open_mpi(rank=1) | FOUR, open_mpi(rank=1) | FIVE])
def test_one_process_per_node_has_all_gpus_of_its_node(environment, starter):
    environment(starter, EIGHT)
    assert where(found()) == (2, 1, None)


@pytest.mark.parametrize(
    "starter",
    [
        slurm(tasks=16, rank=11, local=3) | {"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_NODEID": 1},
        slurm(tasks=16, rank=11, local=3),
        open_mpi(16, 11, 3, 8) | FOUR,
        open_mpi(16, 11, 3, 8) | FIVE,
    ],
)
def test_eight_processes_per_node_have_one_of_eight_gpus_each(environment, starter):
    environment(starter, EIGHT)
    assert where(found()) == (16, 11, [3])


@pytest.mark.parametrize(("local", "gpus"), [(0, [0, 1, 2, 3]), (1, [4, 5, 6, 7])])
def test_two_processes_on_a_node_share_its_gpus(environment, local, gpus):
    environment(slurm(2, local, local, "node1"), EIGHT)
    assert where(found()) == (2, local, gpus)


@pytest.mark.parametrize(
    "given",
    [
        {"CUDA_VISIBLE_DEVICES": "5"},  # fewer than processes: each was shown its own
        {"CUDA_VISIBLE_DEVICES": "GPU-8a"},
        {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_GPUS_PER_TASK": "4"},
        {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_TRES_PER_TASK": "cpu=8,gres/gpu=4"},
        {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "SLURM_STEP_GPUS": "0,1,2,3,4,5,6,7"},
        {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "SLURM_GPUS_ON_NODE": "8"},
        {"CUDA_VISIBLE_DEVICES": ""},
        EIGHT | {"JAX_LOCAL_DEVICE_IDS": "4,5,6,7"},  # which jax reads
    ],
)
def test_gpus_that_the_launcher_shared_out_are_not_shared_out_again(environment, given):
    environment(slurm(2, 1, 1, "node1"), given)
    assert where(found()) == (2, 1, None)


def test_gpus_that_cannot_be_shared_evenly_are_refused(environment):
    environment(slurm(3, 1, 1, "node1"), EIGHT)
    with pytest.raises(ValueError, match="8 GPUs cannot be shared out evenly to 3 processes on one machine"):
        found()


@pytest.mark.parametrize(
    ("nodes", "count", "first"),
    [
        ("localhost", 1, "localhost"),
        ("node1,other", 2, "node1"),
        ("node[001-004,7],other", 6, "node001"),
        ("a-b[12,14-15]", 3, "a-b12"),
        ("gpu-a100-[3-4],gpu-h100-1", 3, "gpu-a100-3"),
    ],
)
def test_lists_of_nodes(nodes, count, first):
    assert clusters._count_nodes(nodes) == count
    assert clusters._first_node(nodes) == first


def test_tasks_of_nodes():
    assert clusters._tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    assert clusters._tasks_per_node("") == []


def test_all_processes_of_a_job_meet_at_one_place_and_those_of_another_elsewhere(environment):
    environment(slurm(rank=0), SLURM_STEP_ID=0)
    here = found().coordinator
    environment(slurm(rank=1, local=1))
    assert found().coordinator == here
    host, port = here.split(":")
    assert (host, 61440 <= int(port) < 65536) == ("node1", True)
    environment(SLURM_STEP_ID=1)
    assert found().coordinator != here
    environment(JAX_COORDINATOR_PORT=5000)
    assert found().coordinator == "node1:5000"
    environment(JAX_COORDINATOR_ADDRESS="10.0.0.9:1")
    assert found().coordinator == "10.0.0.9:1"


def test_where_processes_of_open_mpi_meet(environment):
    environment(open_mpi(4, 1, 1, 2), FIVE)
    host, port = found().coordinator.split(":")
    assert host == "gpu-node-3"
    environment(SLURM_JOB_NODELIST="node[7-8]")  # rank 0 is on the first node, mpirun perhaps elsewhere
    assert found().coordinator == f"node7:{port}"
    environment(open_mpi(4, 1, 1, 4))
    assert found().coordinator == f"127.0.0.1:{port}"
    environment(FOUR)
    assert found().coordinator.startswith("10.96.0.1:")


def test_mpirun_within_slurm_goes_before_srun(environment):
    """srun started only mpirun's daemon on each node, and all ranks of a node inherit its rank."""
    environment(slurm(tasks=2, rank=1), open_mpi(16, 11, 3, 8), FIVE, EIGHT)
    assert found() == Place("Open MPI", found().coordinator, 16, 11, range(3, 4))


@pytest.mark.parametrize(
    "started",
    [
        {"PRTE_LAUNCHED": 1, "OMPI_COMM_WORLD_SIZE": 2, "OMPI_COMM_WORLD_RANK": 1},  # of a version to come
        {"PMI_SIZE": 2, "PMI_RANK": 1},  # MPICH, Intel
    ],
)
def test_processes_that_nobody_tells_a_place_are_not_each_alone(environment, started):
    environment(started)
    with pytest.raises(ValueError, match=r"started 2 processes .* --processes=2 --process=1; .*processes=1"):
        found()


def test_pods_of_an_indexed_job(environment, monkeypatch):
    def pods(count, failure=None):
        def present():
            if failure:
                raise failure

        answers = dict(is_env_present=present, get_process_count=lambda: count, get_process_id=lambda: 1)
        answers["get_coordinator_address"] = lambda **_: "job-0.pods:55527"
        for name, answer in answers.items():
            monkeypatch.setattr(clusters.clusters.K8sCluster, name, staticmethod(answer))

    environment(KUBERNETES_SERVICE_HOST="10.0.0.1", JOB_COMPLETION_INDEX=1)
    with pytest.raises(ValueError, match=r"pip install 'facerep_jax\[k8s\]'"):
        found()
    monkeypatch.setattr(clusters.importlib.util, "find_spec", lambda name: name)
    pods(4)
    assert found() == Place("Kubernetes", "job-0.pods:55527", 4, 1)
    pods(1)
    assert found() is None
    pods(4, RuntimeError("Service host is not set"))
    with pytest.raises(ValueError, match=r"cannot be found: Service host is not set; .*processes=1"):
        found()
