"""Peak resident memory of this process, since a moment of one's choice where the system allows that."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_SELF = Path("/proc/self")
_PEAK = re.compile(r"^VmHWM:\s*(\d+) kB", re.MULTILINE)


def forget_peak() -> bool:
    """Start a new peak; False where only the peak since the start of the process is known."""
    try:
        (_SELF / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_mb() -> float | None:
    """Megabytes (2**20 bytes) at the peak; None on systems that do not say."""
    status = _SELF / "status"
    if status.is_file():
        found = _PEAK.search(status.read_text())
        return int(found[1]) / 1024 if found else None
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
