"""Work that is spread over the machine's cores, by processes that end when the one that started them ends."""

import contextlib
import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

FEW = 500  # items that one process has done before others have started
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def mapped(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Maps over all cores, in order; in this process if the items are few."""
    if len(items) < FEW or (os.cpu_count() or 1) == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of JAX and Beam half-way
    with _single_threaded(), ProcessPoolExecutor(mp_context=context, initializer=end_with_parent) as pool:
        try:
            yield from pool.map(function, items, chunksize=16)
        finally:
            pool.shutdown(cancel_futures=True)


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
