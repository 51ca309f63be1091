"""Memory, stream, events and graphs of one NVIDIA GPU through cuda-python, without torch.

Every function used here has the same signature in cuda-python 12 and 13; only the name of the module changed.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfine_cli.errors import DfineError, MissingError, UsageError

T = TypeVar("T")

EXTRA = "tensorrt"
"""The extra that installs cuda-python and TensorRT."""
MODULES = ("cuda.bindings.runtime", "cuda.cudart")
"""Where the functions of the CUDA runtime are: since cuda-python 12.6.1, and before."""
DRIVER_FILE = Path("/proc/driver/nvidia/version")
"""Where Linux tells the version of the driver."""
NO_GPU = ("cudaErrorNoDevice", "cudaErrorInsufficientDriver", "cudaErrorStubLibrary")
"""Names of the answers that mean that there is no GPU to use."""


class GpuFacts(NamedTuple):
    """What an engine is tied to."""

    name: str
    compute_capability: str
    """Such as ``7.5``."""
    memory_mb: float
    cuda_runtime: str
    cuda_driver: str
    """The newest CUDA version that the driver runs."""
    driver: str
    """Version of the driver itself; empty where the system does not tell."""


class Cuda:
    """One GPU with one stream, on which everything here happens in order.

    Args:
        device: ``auto`` or ``cuda`` for the first GPU, ``cuda:1`` for the second.

    Raises:
        UsageError: ``device`` is no GPU.
        MissingError: cuda-python, the driver or the GPU is not there.
    """

    def __init__(self, device: str = "auto") -> None:
        self.index = _index_of(device)
        self._api = _import_runtime()
        try:
            count = self._checked(self._api.cudaGetDeviceCount())
        except RuntimeError as error:  # raised by cuda-python when it finds no driver library
            raise _no_gpu(str(error)) from error
        if self.index >= count:
            raise MissingError(
                f"device cuda:{self.index} is not there: CUDA sees {count}", "use --device cuda:0"
            )
        self._checked(self._api.cudaSetDevice(self.index))
        self.facts = self._read_facts()
        self.stream = self._checked(self._api.cudaStreamCreate())
        self._events = [self._checked(self._api.cudaEventCreate()) for _ in range(2)]

    def _read_facts(self) -> GpuFacts:
        properties = self._checked(self._api.cudaGetDeviceProperties(self.index))
        return GpuFacts(
            name=properties.name.split(b"\0", 1)[0].decode(),
            compute_capability=f"{properties.major}.{properties.minor}",
            memory_mb=properties.totalGlobalMem / 2**20,
            cuda_runtime=_version(self._checked(self._api.cudaRuntimeGetVersion())),
            cuda_driver=_version(self._checked(self._api.cudaDriverGetVersion())),
            driver=_driver_version(),
        )

    @property
    def stream_handle(self) -> int:
        """The stream as TensorRT takes it."""
        return int(self.stream)

    def allocate(self, size: int) -> int:
        """Address of ``size`` new bytes on the device.

        Raises:
            MemoryError: They are not there.
        """
        return int(self._checked(self._api.cudaMalloc(size)))

    def free(self, address: int) -> None:
        """Give memory back."""
        self._checked(self._api.cudaFree(address))

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copy a contiguous array to the device."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, array.ctypes.data, array.nbytes, kind)

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Fill a contiguous array from the device; it is filled after ``sync``."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array.nbytes, kind)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        self._checked(self._api.cudaMemcpyAsync(target, source, size, kind, self.stream))

    def sync(self) -> None:
        """Wait until the stream has done all it was told."""
        self._checked(self._api.cudaStreamSynchronize(self.stream))

    def time_ms(self, call: Callable[[], T]) -> tuple[T, float]:
        """The result of a call and the milliseconds that the stream took for it, by CUDA events."""
        start, end = self._events
        self._checked(self._api.cudaEventRecord(start, self.stream))
        result = call()
        self._checked(self._api.cudaEventRecord(end, self.stream))
        self._checked(self._api.cudaEventSynchronize(end))
        return result, float(self._checked(self._api.cudaEventElapsedTime(start, end)))

    def capture(self, call: Callable[[], Any]) -> Graph:
        """What ``call`` puts into the stream, as a graph that is launched at once; nothing runs meanwhile."""
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._checked(self._api.cudaStreamBeginCapture(self.stream, mode))
        try:
            call()
        except BaseException:
            self._api.cudaStreamEndCapture(self.stream)  # a stream that captures can do nothing else
            raise
        graph = self._checked(self._api.cudaStreamEndCapture(self.stream))
        launchable = self._checked(self._api.cudaGraphInstantiate(graph, 0))
        self._checked(self._api.cudaGraphDestroy(graph))
        return Graph(
            launch=lambda: self._checked(self._api.cudaGraphLaunch(launchable, self.stream)),
            close=lambda: self._checked(self._api.cudaGraphExecDestroy(launchable)),
        )

    def free_memory_mb(self) -> float:
        """Memory of the device that no process uses."""
        status, free, _total = self._api.cudaMemGetInfo()
        return float(self._checked((status, free))) / 2**20

    def close(self) -> None:
        """Give the stream and the events back."""
        for event in self._events:
            self._checked(self._api.cudaEventDestroy(event))
        self._checked(self._api.cudaStreamDestroy(self.stream))

    def _checked(self, answer: tuple[Any, ...]) -> Any:
        """The value of an answer ``(status, value)``; None where there is only a status."""
        status, *values = answer
        if status == self._api.cudaError_t.cudaSuccess:
            return values[0] if values else None
        if status == self._api.cudaError_t.cudaErrorMemoryAllocation:
            raise MemoryError(f"GPU {self.index} has no memory left")
        _status, text = self._api.cudaGetErrorString(status)
        reason = f"{status.name}: {text.decode()}"
        if status.name in NO_GPU:
            raise _no_gpu(reason)
        raise DfineError(f"GPU {self.index} failed: {reason}", "see what `nvidia-smi` says")


class Graph(NamedTuple):
    """Work recorded once, to be launched as one."""

    launch: Callable[[], Any]
    close: Callable[[], Any]


def as_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Bytes of an array; at least one, since memory of no size has no address."""
    return max(1, dtype.itemsize * int(np.prod(shape, dtype=np.int64)))


def _import_runtime() -> ModuleType:
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise MissingError("cuda-python is not installed", f'pip install "dfine-cli[{EXTRA}]"')


def is_installed() -> bool:
    """Whether cuda-python is there."""
    try:
        return _import_runtime() is not None
    except MissingError:
        return False


def _driver_version() -> str:
    text = DRIVER_FILE.read_text(encoding="utf-8") if DRIVER_FILE.is_file() else ""
    found = re.search(r"Kernel Module\D*?(?:x86_64|aarch64)?\s+(\d+(?:\.\d+)+)", text)
    return found[1] if found else ""


def _index_of(device: str) -> int:
    found = re.fullmatch(r"auto|cuda(?::(\d+))?", device)
    if found is None:
        raise UsageError(
            f"device {device!r}: TensorRT runs on a GPU of NVIDIA only",
            "use --device cuda, or the ONNX file in place of the engine",
        )
    return int(found[1] or 0)


def _no_gpu(reason: str) -> MissingError:
    return MissingError(
        f"no GPU that CUDA can use: {reason}", "see what `nvidia-smi` says; TensorRT needs a GPU of NVIDIA"
    )


def _version(number: int) -> str:
    """``12040`` is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"
