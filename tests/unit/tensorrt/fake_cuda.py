"""A strict stand-in for the module of the CUDA runtime in cuda-python, with memory and a stream that waits.

Names and parameters below were read from the modules in the wheels cuda-python 12.2.0 (``cuda.cudart``),
cuda-bindings 12.9.4, 13.0.3 and 13.5.0 (``cuda.bindings.runtime``), where they are the same; so are the tuples that
the functions return. Any other name is an AttributeError. Work that is put into the stream is done when the program
waits for it, and not before, so that a missing wait gives wrong results.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from enum import Enum
from types import ModuleType
from typing import Any

SIGNATURES: dict[str, tuple[str, ...]] = {
    "cudaGetDeviceCount": (),
    "cudaSetDevice": ("device",),
    "cudaGetDeviceProperties": ("device",),
    "cudaDriverGetVersion": (),
    "cudaRuntimeGetVersion": (),
    "cudaMemGetInfo": (),
    "cudaMalloc": ("size",),
    "cudaFree": ("devPtr",),
    "cudaMemcpyAsync": ("dst", "src", "count", "kind", "stream"),
    "cudaStreamCreate": (),
    "cudaStreamSynchronize": ("stream",),
    "cudaStreamDestroy": ("stream",),
    "cudaStreamBeginCapture": ("stream", "mode"),
    "cudaStreamEndCapture": ("stream",),
    "cudaEventCreate": (),
    "cudaEventRecord": ("event", "stream"),
    "cudaEventSynchronize": ("event",),
    "cudaEventElapsedTime": ("start", "end"),
    "cudaEventDestroy": ("event",),
    "cudaGraphInstantiate": ("graph", "flags"),
    "cudaGraphLaunch": ("graphExec", "stream"),
    "cudaGraphExecDestroy": ("graphExec",),
    "cudaGraphDestroy": ("graph",),
    "cudaGetErrorString": ("error",),
}


class cudaError_t(Enum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700


class cudaMemcpyKind(Enum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(Enum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1


class Handle:
    """A stream, event or graph: an object that gives its address as an int."""

    def __init__(self, address: int) -> None:
        self._address = address
        self.tasks: list[Callable[[], None]] = []
        self.time_ms = 0.0

    def __int__(self) -> int:
        return self._address


class DeviceProperties:
    """The fields that are read."""

    def __init__(self, name: str, capability: str, memory: int) -> None:
        self.name = name.encode()
        self.major, self.minor = map(int, capability.split("."))
        self.totalGlobalMem = memory


class FakeGpu:
    """One GPU with its memory and its streams.

    Attributes:
        fails: Function name -> status it answers with from now on.
        per_task_ms: How long each piece of work takes by the clock of the events.
    """

    def __init__(self, name: str = "Tesla T4", capability: str = "7.5", memory: int = 15 * 2**30) -> None:
        self.name, self.capability, self.memory = name, capability, memory
        self.count, self.current = 1, 0
        self.fails: dict[str, cudaError_t] = {}
        self.per_task_ms = 0.5
        self.clock_ms = 0.0
        self.blocks: dict[int, Any] = {}
        self.open: dict[int, Handle] = {}
        self.capturing: Handle | None = None
        self._next = 0x1000

    def handle(self) -> Handle:
        self._next += 0x10
        made = self.open[self._next] = Handle(self._next)
        return made

    @property
    def used(self) -> int:
        return sum(len(block) for block in self.blocks.values())

    def put(self, stream: Handle, task: Callable[[], None]) -> None:
        """Work for a stream; recorded only while it captures."""
        assert self.open.get(int(stream)) is stream, "a stream that was destroyed"
        target = self.capturing if self.capturing is not None else stream
        target.tasks.append(task)

    def finish(self, stream: Handle) -> None:
        while stream.tasks:
            self.clock_ms += self.per_task_ms
            stream.tasks.pop(0)()

    def inside(self, address: int, size: int) -> bool:
        """Whether memory of the device was allocated there."""
        return any(begin <= address and address + size <= begin + len(b) for begin, b in self.blocks.items())

    def module(self, name: str = "cuda.bindings.runtime") -> ModuleType:
        """The module, calling the methods of this object under their recorded signatures."""
        made = ModuleType(name)
        for kind in (cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode):
            setattr(made, kind.__name__, kind)
        for function, names in SIGNATURES.items():
            setattr(made, function, self._strict(function, names))
        return made

    def _strict(self, name: str, names: tuple[str, ...]) -> Callable[..., tuple[Any, ...]]:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(each, kind) for each in names])
        answer = getattr(self, name)
        values = {"cudaMemGetInfo": 2}.get(name, 1)

        def call(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            bound = signature.bind(*args, **kwargs)
            if name in self.fails:
                return (self.fails[name], *[None] * values)
            found = answer(*bound.args)
            if isinstance(found, cudaError_t):
                return (found, *[None] * values)
            return (cudaError_t.cudaSuccess, *(() if found is None else found))

        return call

    def cudaGetDeviceCount(self) -> Any:
        return (self.count,)

    def cudaSetDevice(self, device: int) -> Any:
        assert 0 <= device < self.count
        self.current = device

    def cudaGetDeviceProperties(self, device: int) -> Any:
        return (DeviceProperties(self.name, self.capability, self.memory),)

    def cudaDriverGetVersion(self) -> Any:
        return (12040,)

    def cudaRuntimeGetVersion(self) -> Any:
        return (12090,)

    def cudaMemGetInfo(self) -> Any:
        return (self.memory - self.used, self.memory)

    def cudaMalloc(self, size: int) -> Any:
        assert isinstance(size, int) and size > 0
        if self.used + size > self.memory:
            return cudaError_t.cudaErrorMemoryAllocation
        block = (ctypes.c_ubyte * size)()
        self.blocks[ctypes.addressof(block)] = block
        return (ctypes.addressof(block),)

    def cudaFree(self, devPtr: int) -> Any:
        del self.blocks[devPtr]

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: Handle) -> Any:
        on_device = dst if kind is cudaMemcpyKind.cudaMemcpyHostToDevice else src
        if not self.inside(on_device, count):
            return cudaError_t.cudaErrorIllegalAddress
        self.put(stream, lambda: ctypes.memmove(dst, src, count))
        return None

    def cudaStreamCreate(self) -> Any:
        return (self.handle(),)

    def cudaStreamSynchronize(self, stream: Handle) -> Any:
        self.finish(stream)

    def _destroy(self, handle: Handle) -> None:
        del self.open[int(handle)]

    cudaStreamDestroy = cudaEventDestroy = cudaGraphDestroy = cudaGraphExecDestroy = _destroy

    def cudaStreamBeginCapture(self, stream: Handle, mode: cudaStreamCaptureMode) -> Any:
        assert isinstance(mode, cudaStreamCaptureMode) and self.capturing is None
        self.capturing = self.handle()

    def cudaStreamEndCapture(self, stream: Handle) -> Any:
        graph, self.capturing = self.capturing, None
        return (graph,)

    def cudaGraphInstantiate(self, graph: Handle, flags: int) -> Any:
        launchable = self.handle()
        launchable.tasks = list(graph.tasks)
        return (launchable,)

    def cudaGraphLaunch(self, graphExec: Handle, stream: Handle) -> Any:
        assert int(graphExec) in self.open, "a graph that was destroyed"

        def all_at_once() -> None:
            for task in graphExec.tasks:
                task()

        self.put(stream, all_at_once)

    def cudaEventCreate(self) -> Any:
        return (self.handle(),)

    def cudaEventRecord(self, event: Handle, stream: Handle) -> Any:
        def note() -> None:
            event.time_ms = self.clock_ms

        self.put(stream, note)
        event.tasks = [lambda: self.finish(stream)]

    def cudaEventSynchronize(self, event: Handle) -> Any:
        for task in event.tasks:
            task()

    def cudaEventElapsedTime(self, start: Handle, end: Handle) -> Any:
        return (end.time_ms - start.time_ms,)

    def cudaGetErrorString(self, error: cudaError_t) -> Any:
        texts = {
            cudaError_t.cudaErrorNoDevice: b"no CUDA-capable device is detected",
            cudaError_t.cudaErrorInsufficientDriver: b"CUDA driver version is insufficient for CUDA runtime version",
        }
        return (texts.get(error, b"an illegal memory access was encountered"),)
