"""How much memory a run may take."""

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
