"""Memory of the process: how much of it a run may take, and how fast it is to be had."""

import ctypes
import platform
from pathlib import Path

import psutil
import torch

_LIMITS = (  # (limit, used) of the container, by version of control groups
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
LIMIT = 2**31 - 1


def free_mb(device: torch.device) -> float:
    """Memory in MiB that this process could have on a device, what it has already included.

    On a CPU that is what the machine and the container leave; on a GPU what no other program holds.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return (free + torch.cuda.memory_reserved(device)) / 2**20
    own = psutil.Process().memory_info().rss
    room = [psutil.virtual_memory().available, *(_room(*files) for files in _LIMITS)]
    return float(min(room) + own) / 2**20


def _room(limit: Path, used: Path) -> float:
    """Bytes that a container may still take; infinite where there is no limit."""
    if not limit.is_file() or not used.is_file():
        return float("inf")
    text = limit.read_text().strip()
    return float("inf") if text == "max" else max(0.0, float(text) - float(used.read_text()))


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
