"""Clusters: which processes were started together with this one, and which of a machine's GPUs are its own.

jax finds most of this out by itself, but it counts the tasks of an allocation for processes that were started, shows a
process the one GPU whose number is the process's own, and does not know Open MPI 5.
"""

import importlib.util
import math
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jax._src import clusters, hardware_utils  # nothing public detects a cluster without joining it

ALONE = "; for a run of this process alone, give --config.operational.processes=1"
FLAGS = "give --coordinator=HOST:PORT --processes={0} --process={1}"
PORTS = (61440, 4096)  # the first port of those for coordinators, and how many there are


class Place(NamedTuple):
    """Where this process stands among those that were started together."""

    starter: str  # what started them
    coordinator: str  # HOST:PORT of the first, where they meet
    processes: int
    process: int  # which this is, from 0
    gpus: Sequence[int] | None = None  # which of the GPUs that it can see are its own; None for all


def found() -> Place | None:
    """This process's place in a cluster, by the environment; None if it runs alone.

    Raises:
        ValueError: it was started as one of several, but not told how to find the others.
    """
    for look in (_open_mpi, _slurm, _other_mpi, _tpu, _kubernetes):
        if (place := look()) is not None:
            return place if place.processes > 1 else None
    return None


def _open_mpi() -> Place | None:
    """Processes of Open MPI's mpirun; within SLURM too, which knows only mpirun's own daemons."""
    count, rank = _number("OMPI_COMM_WORLD_SIZE", 1), _number("OMPI_COMM_WORLD_RANK", 0)
    if "OMPI_COMM_WORLD_SIZE" not in os.environ:
        return None
    on_node = _number("OMPI_COMM_WORLD_LOCAL_SIZE", 0)
    if count == 1:
        coordinator = ""
    elif "OMPI_MCA_orte_hnp_uri" in os.environ:  # Open MPI 4
        coordinator = _of_jax(clusters.OmpiCluster)
    elif job := os.environ.get("PMIX_NAMESPACE"):  # Open MPI 5: prterun-HOST-PID@JOB, HOST being that of mpirun
        named = re.fullmatch(r"prte(?:run)?-(.+)-\d+@\d+", job)
        nodes = os.environ.get("SLURM_JOB_NODELIST", "")
        host = "127.0.0.1" if on_node == count else _first_node(nodes) if nodes else named[1] if named else ""
        coordinator = _address(host, job) if host else ""
    else:
        coordinator = ""
    if count > 1 and not (coordinator := os.environ.get("JAX_COORDINATOR_ADDRESS", coordinator)):
        raise ValueError(
            f"mpirun started {count} processes and does not say where the first is; {FLAGS.format(count, rank)}{ALONE}"
        )
    gpus = _gpus(_number("OMPI_COMM_WORLD_LOCAL_RANK", 0), on_node or count)
    return Place("Open MPI", coordinator, count, rank, gpus)


def _slurm() -> Place | None:
    """The tasks of one srun. A shell, or a batch script without srun, runs alone whatever was allocated to it."""
    needed = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    if any(name not in os.environ for name in needed):
        return None
    count = _number("SLURM_STEP_NUM_TASKS", _number("SLURM_NTASKS", 1))
    if count == 1 or _at_a_terminal():  # srun gives no task a terminal, but for that of a shell
        return Place("SLURM", "", 1, 0)
    nodes, node = os.environ["SLURM_STEP_NODELIST"], _number("SLURM_NODEID", 0)
    tasks = _tasks_per_node(os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    on_node = tasks[node] if node < len(tasks) else math.ceil(count / _count_nodes(nodes))
    job = f"{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_STEP_ID', '')}"
    coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS") or _address(_first_node(nodes), job)
    by_task = "SLURM_GPUS_PER_TASK" in os.environ or "gpu" in os.environ.get("SLURM_TRES_PER_TASK", "")
    by_task |= max(_number("SLURM_GPUS_ON_NODE", 0), _listed("SLURM_STEP_GPUS")) > visible_gpus() > 0
    gpus = None if by_task else _gpus(_number("SLURM_LOCALID", 0), on_node)
    return Place("SLURM", coordinator, count, _number("SLURM_PROCID", 0), gpus)


def _other_mpi() -> Place | None:
    """Raises ValueError for processes of another mpirun, such as MPICH's or Intel's, which tell nobody a place."""
    if "SLURM_JOB_ID" not in os.environ and (count := _number("PMI_SIZE", 1)) > 1:
        how = FLAGS.format(count, _number("PMI_RANK", 0))
        raise ValueError(f"mpirun started {count} processes and does not say where the first is; {how}{ALONE}")
    return None


def _tpu() -> Place | None:
    """The hosts of a TPU slice, or of several."""
    for kind in (clusters.GkeTpuCluster, clusters.GceTpuCluster):
        if kind.is_env_present():
            count = kind.get_process_count()
            return Place("TPU", _of_jax(kind) if count > 1 else "", count, kind.get_process_id())
    return None


def _kubernetes() -> Place | None:
    """The pods of an indexed Job; a pod of any other kind is alone."""
    if "KUBERNETES_SERVICE_HOST" not in os.environ or "JOB_COMPLETION_INDEX" not in os.environ:
        return None
    kind = clusters.K8sCluster
    if importlib.util.find_spec("kubernetes") is None:
        raise ValueError(f"the pods of this Job find each other with: pip install 'facerep_jax[k8s]'{ALONE}")
    try:
        kind.is_env_present()  # reads the pod's credentials
        count = kind.get_process_count()
        return Place("Kubernetes", _of_jax(kind) if count > 1 else "", count, kind.get_process_id())
    except Exception as error:  # of many kinds: no credentials, no permission, no headless service
        raise ValueError(f"the other pods of this Job cannot be found: {error}{ALONE}") from error


def _of_jax(kind: type[clusters.ClusterEnv]) -> str:
    return kind.get_coordinator_address(
        timeout_secs=300, override_coordinator_port=os.environ.get("JAX_COORDINATOR_PORT")
    )


def _address(host: str, job: str) -> str:
    """HOST:PORT, with a port that all processes of a job choose alike and other jobs on the host rarely."""
    first, count = PORTS
    return f"{host}:{os.environ.get('JAX_COORDINATOR_PORT') or first + zlib.crc32(job.encode()) % count}"


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").partition("(")[0]
    return int(text) if text.strip().isdigit() else default


def _listed(variable: str) -> int:
    """The number of entries in a variable that lists some with commas."""
    return len([entry for entry in os.environ.get(variable, "").split(",") if entry.strip()])


def _at_a_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False


def _tasks_per_node(text: str) -> list[int]:
    """SLURM's 2(x3),1 as [2, 2, 2, 1]."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in found for _ in range(int(times or 1))]


def _count_nodes(nodes: str) -> int:
    """How many hosts SLURM's node[1-3,7],other names."""
    count = 0
    for inside in re.findall(r"[^,\[]+(?:\[([^\]]*)\])?[^,]*", nodes):
        for part in inside.split(","):
            first, _, last = part.partition("-")
            count += int(last) - int(first) + 1 if last else 1
    return max(count, 1)


def _first_node(nodes: str) -> str:
    """The first host that SLURM's node[1-3,7],other names."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", re.split(r",(?![^\[]*\])", nodes)[0])


def _gpus(rank: int, on_node: int) -> Sequence[int] | None:
    """The numbers of the GPUs that belong to one of the processes on a machine; None for all that it can see.

    Processes that can see fewer GPUs than there are processes have been given them one by one.

    Raises:
        ValueError: they cannot be shared out evenly.
    """
    gpus = visible_gpus()
    if on_node <= 1 or gpus < on_node or "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return None
    if gpus % on_node:
        raise ValueError(
            f"{gpus} GPUs cannot be shared out evenly to {on_node} processes on one machine; start one process on each "
            "machine, which uses all of its GPUs, or one for each GPU"
        )
    share = gpus // on_node
    return range(rank * share, (rank + 1) * share)


def visible_gpus() -> int:
    """How many GPUs this process can see, as far as that is known without starting jax on them."""
    for variable in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if variable in os.environ:
            return _listed(variable)
    return gpus_of_machine()


def gpus_of_machine() -> int:
    """How many GPUs this machine has, whether this process may see them or not."""
    nvidia = [path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]
    return len(nvidia) or max(hardware_utils.num_available_amd_gpus(), 0)


def processes_on_machine() -> int:
    """How many processes of the run are on this machine, as far as its launcher tells; 1 if it does not."""
    tasks = _tasks_per_node(os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node = _number("SLURM_NODEID", 0)
    return _number("OMPI_COMM_WORLD_LOCAL_SIZE", tasks[node] if node < len(tasks) else 1)
