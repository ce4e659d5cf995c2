"""Keeps the memory of a training step for the next one.

Chapter 12 of the course.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# Of <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = -1
LARGEST_THRESHOLD = 32 * 1024 * 1024  # bytes; glibc refuses more


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, so that it need not be given the same pages again.

    glibc returns large blocks to the system at once. A training step on the CPU frees all its maps
    and needs as many for the next step: each time thousands of pages have to be handed out and
    cleared, about a fifteenth of a step of the nano preset. The process never holds more than it
    needed at its peak, but it holds that until it ends.

    Returns:
        Whether the C library is one that can be told so: glibc, on Linux.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    results = mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD), mallopt(M_TRIM_THRESHOLD, NEVER)
    return all(results)
