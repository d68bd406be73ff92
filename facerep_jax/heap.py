"""Keep freed memory for the next step, on small machines without an accelerator to feed.

glibc gives each large buffer back to the kernel once it is free, and XLA's CPU backend allocates a step's buffers anew
at each step: on two cores a sixth of a small step goes into mapping and zeroing pages.
"""

import ctypes
import os

CORES = 8  # a larger host is a pod's, whose input threads should not wait for each other at one heap
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8  # glibc's malloc.h


def keep() -> bool:
    """From now on serve all allocations from one heap that never shrinks; says whether that is so.

    Acts on threads that have not allocated yet, so call it before JAX is imported. Does nothing on hosts of more than
    `CORES` cores and where the C library is not glibc. MALLOC_ARENA_MAX in the environment, of any value, is left to
    the one who set it.
    """
    if (os.cpu_count() or 1) > CORES or "MALLOC_ARENA_MAX" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    wanted = {ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**27}
    return mallopt is not None and all(mallopt(option, value) for option, value in wanted.items())
