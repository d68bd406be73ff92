"""Several processes as one run: how they join, meet and agree."""

import ctypes
import ipaddress
import itertools
import os
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax._src.distributed import global_state  # nothing public gives access to its barriers
from jax.experimental import multihost_utils

from facerep_jax.train import clusters

QUIET = 10  # seconds for which processes wait for each other at the start without a word
UNPROXIED = "no_grpc_proxy"  # the variable by which gRPC knows what it must reach without a proxy
PATIENCE = 600  # seconds that processes wait for each other's messages and files
_meetings = itertools.count()


def initialize(
    coordinator: str = "", processes: int = 0, process: int = -1, *, expected: int = 0, patience: float = 300.0
) -> None:
    """Join the other processes of a run; call it before anything touches a device.

    If `coordinator` (HOST:PORT of the first process), `processes` and `process` are given, they say how. Otherwise the
    cluster does (TPU, SLURM, Open MPI, Kubernetes). Without a cluster, or if one process is `expected`, it is alone.

    Args:
        patience: seconds to wait for the others.

    Raises:
        ValueError: if fewer than `expected` processes appear, or not all of a cluster within `patience`, or only some
            of the first three arguments are given.
    """
    given = (bool(coordinator), processes > 0, process >= 0)
    if any(given) and not all(given):
        raise ValueError("--coordinator, --processes and --process belong together: give all three or none")
    if all(given) and process >= processes:
        raise ValueError(f"--process counts from 0 and is less than --processes={processes}, not {process}")
    if patience <= 0:
        raise ValueError(f"operational.join_seconds is above 0, not {patience:g}")
    if not jax.distributed.is_initialized():
        by_flags = clusters.Place("these flags", coordinator, processes, process)
        place = by_flags if all(given) else None if expected == 1 else clusters.found()
        if place is not None and place.processes > 1:
            join(place, patience)
    if (count := jax.process_count() if jax.distributed.is_initialized() else 1) < expected:
        raise ValueError(f"operational.processes expects {expected} processes and {count} appeared")


def join(place: clusters.Place, patience: float) -> None:
    """Join the other processes of a cluster. Raises ValueError if they do not all appear within `patience` seconds."""
    # On CPUs, programs that were dispatched one after the other run concurrently. If two of them contain collectives,
    # such as a step and an allgather beside it, the processes can deadlock.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    keep_proxies_out(place.coordinator)
    failure: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                place.coordinator,
                place.processes,
                place.process,
                local_device_ids=place.gpus,
                cluster_detection_method="deactivate",
                coordinator_bind_address=place.coordinator if loopback(place.coordinator) else None,
                initialization_timeout=int(patience) + 3600,  # at whose end jax aborts the process
            )
        except Exception as error:
            failure.append(error)

    others = f"the other {place.processes - 1} of {place.processes} processes of {place.starter}"
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(min(patience, QUIET))
    if thread.is_alive() and patience > QUIET:
        logging.warning(
            "waiting for %s at %s, at most %g s in all (operational.join_seconds)%s",
            *(others, place.coordinator, patience, clusters.ALONE),
        )
        thread.join(patience - QUIET)
    if thread.is_alive():
        forget()
        raise ValueError(
            f"{others} did not all appear at {place.coordinator} within {patience:g} s "
            f"(operational.join_seconds){clusters.ALONE}"
        )
    if failure:
        raise ValueError(f"{others} cannot be joined at {place.coordinator}: {failure[0]}") from failure[0]


def forget() -> None:
    """Leave a connection of jax's that is half made as it is: taking it down prints a page and may abort."""
    if global_state.service is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(global_state.service))
        global_state.service = None


def keep_proxies_out(address: str) -> None:
    """Let processes reach HOST:PORT without the proxy that http_proxy names, at which they would wait for ever."""
    host = address.rpartition(":")[0].strip("[]")
    before = next(filter(None, map(os.environ.get, (UNPROXIED, "no_proxy", "NO_PROXY"))), "")
    os.environ[UNPROXIED] = f"{before},{host}" if before else host
    jax.config.update("jax_check_proxy_envs", False)  # jax would warn of just that


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
