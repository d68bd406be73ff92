"""Heap that keeps freed memory for the next step, on small machines.

glibc returns each large buffer to the kernel as soon as it is freed, and XLA's CPU backend allocates its buffers anew
at each step. On two cores, a sixth of a small step goes into mapping and zeroing pages.
"""

import ctypes
import os

CORES = 8  # larger hosts feed accelerators, and their many input threads should not contend for one heap
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8  # glibc's malloc.h


def keep() -> bool:
    """Serve all allocations from one heap that never shrinks, and return whether that is in effect.

    It affects only threads that have not allocated yet, so call it before JAX is imported. It does nothing if the host
    has more than `CORES` cores, if the C library is not glibc, or if MALLOC_ARENA_MAX is set in the environment.
    """
    if (os.cpu_count() or 1) > CORES or "MALLOC_ARENA_MAX" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    wanted = {ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**27}
    return mallopt is not None and all(mallopt(option, value) for option, value in wanted.items())
