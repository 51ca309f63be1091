"""Readings through the real NVML bindings, with their calls into the driver replaced."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pynvml
import pytest

from dfine_cli.bench import gpu as gpu_module
from dfine_cli.bench.gpu import Gpu, GpuInfo, GpuState, info_without_nvml
from dfine_cli.errors import MissingError

MEMORY = SimpleNamespace(total=15360 * 2**20, used=800 * 2**20)


@pytest.fixture
def driver(monkeypatch):
    """A driver with one T4; its answers can be changed. Every name must exist in the real module."""
    answers = {
        "nvmlInit": None,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetHandleByUUID": "handle",
        "nvmlDeviceGetName": b"Tesla T4",
        "nvmlSystemGetDriverVersion": "550.54",
        "nvmlSystemGetCudaDriverVersion": 12040,
        "nvmlDeviceGetMemoryInfo": MEMORY,
        "nvmlDeviceGetEnforcedPowerLimit": 70_000,
        "nvmlDeviceGetPowerUsage": 65_500,
        "nvmlDeviceGetCurrentClocksThrottleReasons": pynvml.nvmlClocksThrottleReasonSwPowerCap
        | pynvml.nvmlClocksThrottleReasonGpuIdle,
        "nvmlDeviceGetClockInfo": 1590,
        "nvmlDeviceGetTemperature": 71,
    }
    calls = []

    def answer(name):
        def call(*arguments):
            calls.append((name, *arguments))
            if isinstance(answers[name], Exception):
                raise answers[name]
            return answers[name]

        return call

    for name in answers:
        monkeypatch.setattr(pynvml, name, answer(name))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return SimpleNamespace(answers=answers, calls=calls)


def test_a_reading(driver):
    gpu = Gpu()
    assert gpu.info == GpuInfo("Tesla T4", "550.54", "12.4", 15360, 70.0)
    assert gpu.read() == GpuState(1590, 1590, 71, 65.5, 800, ("power cap",))  # idling is no throttling


def test_what_a_gpu_does_not_tell_is_unknown(driver):
    unsupported = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    for name in ("EnforcedPowerLimit", "PowerUsage", "CurrentClocksThrottleReasons", "Temperature"):
        driver.answers[f"nvmlDeviceGet{name}"] = unsupported
    gpu = Gpu()
    assert gpu.info.power_limit_w is None
    assert gpu.read() == GpuState(1590, 1590, None, None, 800, None)


@pytest.mark.parametrize(
    ("visible", "index", "call"),
    [
        ("", 1, ("nvmlDeviceGetHandleByIndex", 1)),
        ("3,2", 1, ("nvmlDeviceGetHandleByIndex", 2)),
        ("GPU-abc", 0, ("nvmlDeviceGetHandleByUUID", "GPU-abc")),
    ],
)
def test_visible_devices_are_followed(driver, monkeypatch, visible, index, call):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    Gpu(index)
    assert call in driver.calls


def test_no_driver(driver):
    driver.answers["nvmlInit"] = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    with pytest.raises(MissingError, match="GPU 0: NVML gives no readings") as caught:
        Gpu()
    assert "nvidia-smi" in caught.value.hint


def test_no_bindings(monkeypatch):
    def need(module, *, extra):
        raise MissingError(f"{module} is not installed", f'pip install "dfine-cli[{extra}]"')

    monkeypatch.setattr(gpu_module, "need", need)
    with pytest.raises(MissingError, match="pynvml is not installed"):
        Gpu()


def test_torch_names_a_gpu_that_it_uses(monkeypatch):
    properties = SimpleNamespace(name="NVIDIA L4", total_memory=24 * 2**30)
    asked = []
    cuda = SimpleNamespace(
        is_available=lambda: True, get_device_properties=lambda device: asked.append(device) or properties
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert info_without_nvml("cuda:1") == GpuInfo("NVIDIA L4", "unknown", "unknown", 24 * 1024, None)
    assert asked == ["cuda:1"]
