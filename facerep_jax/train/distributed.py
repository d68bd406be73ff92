"""Several processes as one run: how they join, meet and agree."""

import ipaddress
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax._src.clusters import ClusterEnv  # nothing public detects a cluster without joining it
from jax._src.distributed import global_state  # nothing public gives access to its barriers
from jax.experimental import multihost_utils

PATIENCE = 600  # seconds that processes wait for each other's messages and files
_meetings = itertools.count()


def initialize(coordinator: str = "", processes: int = 0, process: int = -1, *, expected: int = 0) -> None:
    """Join the other processes of a run; call it before anything touches a device.

    If `coordinator` (HOST:PORT of the first process), `processes` and `process` are given, they say how. Otherwise the
    cluster does (TPU, SLURM, Open MPI, Kubernetes). Without a cluster, this process is alone.

    Raises:
        ValueError: if fewer than `expected` processes appear, or only some of the three arguments are given.
    """
    given = (bool(coordinator), processes > 0, process >= 0)
    if any(given) and not all(given):
        raise ValueError("--coordinator, --processes and --process belong together: give all three or none")
    if not jax.distributed.is_initialized():
        name = "" if all(given) else cluster()
        if all(given) or name:
            # On CPUs, programs that were dispatched one after the other run concurrently. If two of them contain
            # collectives, such as a step and an allgather beside it, the processes can deadlock.
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
    """The kind of cluster that this process was started in; empty if there is none."""
    kinds = [kind for kind in ClusterEnv._cluster_types if not kind.opt_in_only_method]
    return next((kind.name or kind.__name__ for kind in kinds if kind.is_env_present()), "")


def loopback(address: str) -> bool:
    """Whether HOST:PORT is a loopback address, which only this machine can reach."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def alone() -> bool:
    """Whether there is only one process."""
    return jax.process_count() == 1


def first() -> bool:
    """Whether this is the first process, which writes everything that is written only once."""
    return jax.process_index() == 0


def impatient() -> bool:
    """Whether a process gives up on a collective that another enters half a minute later, as on CPUs."""
    return not alone() and jax.default_backend() == "cpu"


def meet() -> None:
    """Wait for all processes by messages, if a collective would not wait long enough."""
    if impatient() and global_state.client is not None:
        global_state.client.wait_at_barrier(f"facerep_{next(_meetings)}", 1000 * PATIENCE)


def together(name: str) -> None:
    """Wait until all processes have reached the point of this name."""
    if not alone():
        meet()
        multihost_utils.sync_global_devices(name)


def by_first(name: str, act: Callable[[], Any]) -> None:
    """Let the first process do something while the others wait; if it fails, all raise.

    The others raise ValueError, since they cannot know the reason.
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
    """Whether the flag is set in any process; all processes get the same answer."""
    meet()
    return flag if alone() else bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def same_as_first(flag: bool) -> bool:
    """The flag of the first process, in all processes."""
    return flag if alone() else bool(multihost_utils.broadcast_one_to_all(np.asarray(flag)))


def total(**counts: int) -> dict[str, int]:
    """Sums of counts over all processes."""
    if alone():
        return counts
    sums = multihost_utils.process_allgather(np.asarray(list(counts.values()))).sum(0)
    return {name: int(count) for name, count in zip(counts, sums, strict=True)}


def preempted(step: int) -> bool:
    """Whether all processes must save at this step and end, because one of them received SIGTERM.

    Every process must call this at every step.
    """
    return not alone() and multihost_utils.reached_preemption_sync_point(step)
