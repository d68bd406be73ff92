"""Work that is spread over the machine's cores, by processes that end when the one that started them ends."""

import contextlib
import functools
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

FEW = 500  # items that one process has done before others have started
SHARED = Path("/dev/shm")  # through which grain's workers hand over batches
HELD = 4  # batches of each of grain's workers that lie there when training waits, as measured with grain 0.2.18
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def mapped(function: Callable[[Any], Any], items: Sequence[Any], *, few: int = 0, chunk: int = 16) -> Iterator[Any]:
    """Maps over all cores, in order; in this process if there are less than `few` items, or `FEW` if it is 0.

    Args:
        chunk: items that a process takes at a time.
    """
    if len(items) < (few or FEW) or (os.cpu_count() or 1) == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of JAX and Beam half-way
    with _single_threaded(), ProcessPoolExecutor(mp_context=context, initializer=end_with_parent) as pool:
        try:
            yield from pool.map(function, items, chunksize=chunk)
        finally:
            pool.shutdown(cancel_futures=True)


def check_shared_memory(workers: int, batch_bytes: int) -> None:
    """Raise ValueError if the batches of grain's workers do not fit into shared memory, where SIGBUS would end them.

    Args:
        batch_bytes: of this process's share of a batch.
    """
    if not workers or not SHARED.is_dir():
        return
    needed, room = (HELD * workers + 1) * batch_bytes, shutil.disk_usage(SHARED)
    if room.free < needed and room.total:  # a total of 0 is no limit
        raise ValueError(
            f"{workers} workers keep up to {needed / 2**20:,.0f} MiB of batches in {SHARED}, which has "
            f"{room.free / 2**20:,.0f} MiB free: give it more (docker run --shm-size), or read without workers, "
            "--config.operational.workers=0"
        )


@functools.cache
def end_with_parent() -> None:
    """Sees to it that this process ends when the one that started it does, even if that one is killed.

    Workers of a pool, and grain's, would otherwise wait for ever, with all their memory. Does nothing in a process that
    no other started by `multiprocessing`.
    """
    if (parent := multiprocessing.parent_process()) is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """One BLAS thread for each process started inside: every core has a worker already."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
