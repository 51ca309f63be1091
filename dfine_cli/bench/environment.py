"""The machine and the versions behind a number, stored with every one."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dfine_cli import __version__
from dfine_cli.backends.threads import count_cpus
from dfine_cli.bench.gpu import GpuInfo

PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "cuda-python",
    "nvidia-ml-py",
)
"""Distributions whose versions can matter to a latency."""
BUSY = 0.25
"""Share of the CPUs that others may use at the start of a measurement that is called quiet."""


@dataclass(frozen=True)
class Environment:
    """What a figure was measured on.

    Attributes:
        dfine: Version of this package.
        python: Version.
        platform: Operating system and architecture.
        packages: Version of each of ``PACKAGES`` that is installed.
        cpu: Name of the processor.
        cpus: CPUs this process may use.
        threads: Threads of the backends that can be told.
        load: Mean number of threads that ran or waited in the minute before; None where it is not known.
        gpu: The GPU measured on; None if none was.
        command: The words of the command line.
    """

    dfine: str
    python: str
    platform: str
    packages: dict[str, str]
    cpu: str
    cpus: int
    threads: int
    load: float | None
    gpu: GpuInfo | None
    command: tuple[str, ...]

    @property
    def busy(self) -> bool:
        """Whether others used the CPUs when the measurement began, so that its figures may be too high."""
        return self.load is not None and self.load > BUSY * self.cpus

    @property
    def device(self) -> str:
        """What to call the machine: its GPU, else its processor."""
        return self.gpu.name if self.gpu else self.cpu


def read_environment(threads: int, gpu: GpuInfo | None) -> Environment:
    """The environment of this process; read it before the measurement, for the load."""
    return Environment(
        dfine=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=_versions(),
        cpu=_cpu_name(),
        cpus=count_cpus(),
        threads=threads,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        gpu=gpu,
        command=("dfine", *sys.argv[1:]),
    )


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
