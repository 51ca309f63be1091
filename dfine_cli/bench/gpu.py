"""Readings of an NVIDIA GPU through NVML: clocks, temperature, power, and what slows it down."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from dfine_cli.backends.cuda import Cuda, is_installed
from dfine_cli.errors import MissingError
from dfine_cli.optional import need

T = TypeVar("T")

EXTRA = "bench"
"""The extra that installs the NVML bindings."""
THROTTLES = {
    "power cap": "SwPowerCap",
    "hardware slowdown": "HwSlowdown",
    "thermal slowdown (software)": "SwThermalSlowdown",
    "thermal slowdown (hardware)": "HwThermalSlowdown",
    "power brake": "HwPowerBrakeSlowdown",
}
"""What slows a GPU down below the clocks it was set to, by the end of NVML's constant for it."""
UNKNOWN = "unknown GPU"
"""Name of a GPU that nothing here can ask for its name."""


class GpuInfo(NamedTuple):
    """What does not change while a GPU is measured."""

    name: str
    driver: str
    cuda: str
    """The newest CUDA version that the driver runs."""
    memory_mb: float | None
    power_limit_w: float | None


class GpuState(NamedTuple):
    """One reading; what a GPU does not tell is None."""

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    used_memory_mb: float | None
    """Of all processes."""
    throttles: tuple[str, ...] | None
    """Keys of ``THROTTLES`` that were active."""


class Gpu:
    """One GPU, read through NVML.

    Args:
        index: Its number, as CUDA counts; ``CUDA_VISIBLE_DEVICES`` is followed.

    Raises:
        MissingError: The NVML bindings, the driver or the GPU is not there.
    """

    def __init__(self, index: int = 0) -> None:
        self._nvml: ModuleType = need("pynvml", extra=EXTRA)
        try:
            self._nvml.nvmlInit()
            self._handle = self._find(index)
            self.info = self._info()
        except self._nvml.NVMLError as error:
            raise MissingError(
                f"GPU {index}: NVML gives no readings: {error}", "see what `nvidia-smi` says"
            ) from error

    def _find(self, index: int) -> Any:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        name = visible[index].strip() if index < len(visible) else ""
        if name and not name.isdigit():
            return self._nvml.nvmlDeviceGetHandleByUUID(name)
        return self._nvml.nvmlDeviceGetHandleByIndex(int(name) if name else index)

    def _info(self) -> GpuInfo:
        nvml = self._nvml
        cuda = nvml.nvmlSystemGetCudaDriverVersion()
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo)
        limit_mw = self._ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
        return GpuInfo(
            name=_text(nvml.nvmlDeviceGetName(self._handle)),
            driver=_text(nvml.nvmlSystemGetDriverVersion()),
            cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
            memory_mb=None if memory is None else memory.total / 2**20,
            power_limit_w=None if limit_mw is None else limit_mw / 1000,
        )

    def read(self) -> GpuState:
        """What the GPU does at this moment; read it outside of the clock."""
        nvml = self._nvml
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo)
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage)
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        return GpuState(
            sm_clock_mhz=self._ask(lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
            memory_clock_mhz=self._ask(lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM)),
            temperature_c=self._ask(
                lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)
            ),
            power_w=None if power_mw is None else power_mw / 1000,
            used_memory_mb=None if memory is None else memory.used / 2**20,
            throttles=None if reasons is None else self._decode(reasons),
        )

    def _decode(self, reasons: int) -> tuple[str, ...]:
        constants = vars(self._nvml)
        return tuple(
            name for name, end in THROTTLES.items() if reasons & constants[f"nvmlClocksThrottleReason{end}"]
        )

    def _ask(self, question: Callable[[Any], T]) -> T | None:
        """The answer for this GPU; None where it does not give one, as parts and virtual GPUs do not."""
        try:
            return question(self._handle)
        except self._nvml.NVMLError:
            return None


def info_without_nvml(device: str) -> GpuInfo:
    """What CUDA tells of a GPU where NVML tells nothing, by what has just used it; its name is ``UNKNOWN`` if nothing can.

    Args:
        device: Such as ``cuda:0``.
    """
    torch = sys.modules.get("torch")  # not imported for this: exported files run without it
    if torch is not None and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(device)
        return GpuInfo(properties.name, "unknown", "unknown", properties.total_memory / 2**20, None)
    if is_installed():
        cuda = Cuda(device)
        cuda.close()
        facts = cuda.facts
        return GpuInfo(facts.name, facts.driver or "unknown", facts.cuda_driver, facts.memory_mb, None)
    return GpuInfo(UNKNOWN, "unknown", "unknown", None, None)


def _text(value: str | bytes) -> str:
    """Old bindings give bytes."""
    return value.decode() if isinstance(value, bytes) else value
