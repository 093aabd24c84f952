"""Memory that the C library keeps when a program frees it.

XLA's CPU backend asks for the memory of all intermediate values anew at each call. glibc takes a
large piece from the system each time and gives it back, and the system clears every page of it
again: up to a quarter of the time of a gradient step.
"""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed() -> bool:
    """Lets malloc keep large pieces that are freed, for the next call, in the whole process.

    To be called by a program before its first array. What it held at most it holds to its end.

    Returns:
        Whether the C library knows how: glibc does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return False
    # One arena: the others give back what is above 64 MiB, whatever they are told.
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1))
    return all(mallopt(option, value) == 1 for option, value in options)
