"""Freed memory stays with the process, for the next frame of the same size.

glibc gives large blocks back to the kernel at once and asks for them anew: a decoded frame of 2.7 MB is then 675 page
faults, which on one virtual machine doubled the time of a JPEG (5.5 instead of 2.6 ms).
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT_BYTES = 32 << 20
"""The most that glibc accepts."""
_MOST_FREE_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Tell the C library; say whether it is one that can be told."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES) and mallopt(_TRIM_THRESHOLD, _MOST_FREE_BYTES))
