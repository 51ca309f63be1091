"""Memory of the process, where it decides about speed."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
LIMIT = 2**31 - 1


def keep_freed_blocks() -> bool:
    """Have the allocator keep freed memory for the next step; returns whether it is one that can be told.

    glibc gives every large block back to the system when it is freed, and a training step on the CPU frees and
    takes the same hundreds of megabytes again: the page faults cost about a tenth of it. The process keeps its
    peak instead. A GPU's memory has an allocator of its own and is not concerned.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(parameter, LIMIT) == 1 for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
