"""How many CPU threads a runtime may use."""

from __future__ import annotations

import os


def count_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
