"""Many processes as one run: who they are, and what they have to agree on."""

import ipaddress
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax._src.clusters import ClusterEnv  # nothing public says whether a cluster is there without joining it
from jax._src.distributed import global_state  # nor gives its barriers
from jax.experimental import multihost_utils

PATIENCE = 600  # seconds that processes wait for each other by messages and files
_meetings = itertools.count()


def initialize(coordinator: str = "", processes: int = 0, process: int = -1, *, expected: int = 0) -> None:
    """Join the other processes; call it before anything touches a device.

    With `coordinator` (HOST:PORT of the first process), `processes` and `process` as they say; else as the cluster says
    (TPU, SLURM, Open MPI, Kubernetes); else this process is alone.

    ValueError where fewer processes appear than `expected`, or only some of the three are given.
    """
    given = (bool(coordinator), processes > 0, process >= 0)
    if any(given) and not all(given):
        raise ValueError("--coordinator, --processes and --process belong together: give all three or none")
    if not jax.distributed.is_initialized():
        name = "" if all(given) else cluster()
        if all(given) or name:
            # On CPUs, programs that were started one after the other run at once. Where two have collectives, such as a
            # step and what is gathered beside it, the processes may wait for each other for ever.
            jax.config.update("jax_cpu_enable_async_dispatch", False)
        if all(given):
            if process >= processes:
                raise ValueError(f"--process counts from 0 and is less than --processes={processes}, not {process}")
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                cluster_detection_method="deactivate",
                coordinator_bind_address=coordinator if loopback(coordinator) else None,
            )
        elif name:
            logging.info("joining the processes of %s", name)
            jax.distributed.initialize()
    if (count := jax.process_count() if jax.distributed.is_initialized() else 1) < expected:
        raise ValueError(f"operational.processes expects {expected} processes and {count} appeared")


def cluster() -> str:
    """The kind of cluster that this process was started in; empty where it is none."""
    kinds = [kind for kind in ClusterEnv._cluster_types if not kind.opt_in_only_method]
    return next((kind.name or kind.__name__ for kind in kinds if kind.is_env_present()), "")


def loopback(address: str) -> bool:
    """Whether HOST:PORT is of this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def alone() -> bool:
    """Whether there is one process."""
    return jax.process_count() == 1


def first() -> bool:
    """Whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def impatient() -> bool:
    """Whether a process that comes to a collective half a minute before another gives up, as on CPUs."""
    return not alone() and jax.default_backend() == "cpu"


def meet() -> None:
    """Wait for all processes by messages where collectives would not."""
    if impatient() and global_state.client is not None:
        global_state.client.wait_at_barrier(f"facerep_{next(_meetings)}", 1000 * PATIENCE)


def together(name: str) -> None:
    """Wait for all processes at a point of this name."""
    if not alone():
        meet()
        multihost_utils.sync_global_devices(name)


def by_first(name: str, act: Callable[[], Any]) -> None:
    """Let the first process do something, and the others wait until it is done; all raise where it fails.

    The error of the others is ValueError, for they cannot know the reason.
    """
    error: BaseException | None = None
    if first():
        try:
            act()
        except Exception as raised:
            error = raised
    if anyone(error is not None):
        raise error or ValueError(f"the first process failed at {name}; its message says why")


def anyone(flag: bool) -> bool:
    """Whether the flag is set in any process; all get the same answer."""
    meet()
    return flag if alone() else bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def same_as_first(flag: bool) -> bool:
    """The first process's flag."""
    return flag if alone() else bool(multihost_utils.broadcast_one_to_all(np.asarray(flag)))


def total(**counts: int) -> dict[str, int]:
    """Counts added up over all processes."""
    if alone():
        return counts
    sums = multihost_utils.process_allgather(np.asarray(list(counts.values()))).sum(0)
    return {name: int(count) for name, count in zip(counts, sums, strict=True)}


def preempted(step: int) -> bool:
    """Whether all processes are to save at this step and end, because one of them was sent SIGTERM.

    Every process calls this at every step.
    """
    return not alone() and multihost_utils.reached_preemption_sync_point(step)
