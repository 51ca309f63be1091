"""The running side of the simulation: engines are opened or refused as the real runtime does, and run."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.unit.tensorrt.simulation import (
    ARRAYS,
    MAGIC,
    NAMES,
    Builder,
    Config,
    Dims,
    HostMemory,
    Layer,
    Network,
    Parser,
    ParserError,
    Profile,
    Tensor,
    TimingCache,
    World,
    started,
)


class Runtime:
    def __init__(self, world: World, logger: Any) -> None:
        self._world, self._logger = world, started(world, logger)

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        world = self._world
        reason = self._refusal(bytes(data))
        if reason:
            self._logger.log(world.trt.ILogger.ERROR, f"IRuntime::deserializeCudaEngine: {reason}")
            return None
        header, model = unpack(bytes(data))
        return Engine(world, header, model, self._logger)

    def _refusal(self, data: bytes) -> str:
        world = self._world
        if not data.startswith(MAGIC):
            return "Error Code 1: Serialization (assertion magicTagRead == kMAGIC_TAG failed. Magic tag does not match)"
        begin = len(MAGIC)
        sizes = (
            int.from_bytes(data[begin : begin + 4], "little"),
            int.from_bytes(data[begin + 4 : begin + 12], "little"),
        )
        if len(data) != begin + 12 + sum(sizes):
            return "Error Code 1: Serialization (assertion mSize >= 0 failed. Buffer is too small)"
        header, _ = unpack(data)
        if header["version"] != world.version:
            if world.major > 10:
                return (
                    "Error Code 1: Serialization (assertion stdVersionRead == kSERIALIZATION_VERSION failed."
                    "Version tag does not match. Note: Current Version: 242, Serialized Engine Version: 239)"
                )
            return (
                "Error Code 6: API Usage Error (The engine plan file is not compatible with this version of TensorRT, "
                f"expecting library version {world.version} got {header['version']}, please rebuild.)"
            )
        if header["capability"] != world.gpu.capability:
            return (
                "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, "
                f"expecting compute {world.gpu.capability} got compute {header['capability']}, please rebuild.)"
            )
        return ""


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    begin = len(MAGIC) + 12
    middle = begin + int.from_bytes(data[len(MAGIC) : len(MAGIC) + 4], "little")
    return json.loads(data[begin:middle]), data[middle:]


class Inspector:
    def __init__(self, header: dict[str, Any]) -> None:
        self._header = header

    def get_engine_information(self, form: Any) -> str:
        assert form.name == "JSON"
        return json.dumps({"Layers": self._header["layers"], "Bindings": []})


class Engine:
    def __init__(self, world: World, header: dict[str, Any], model: bytes, logger: Any) -> None:
        self._world, self._header, self._logger = world, header, logger
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        graph = onnx.load_model_from_string(model).graph
        self._inputs = [port.name for port in graph.input]
        self._ports = {
            port.name: NAMES[port.type.tensor_type.elem_type][1] for port in (*graph.input, *graph.output)
        }
        self._symbols = {port.name: list(port.shape) for port in self._session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._ports)

    def get_tensor_name(self, index: int) -> str:
        return list(self._ports)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self._world.trt.DataType, self._ports[name])

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._world.trt.TensorIOMode
        return modes.INPUT if name in self._inputs else modes.OUTPUT

    def get_tensor_profile_shape(self, name: str, index: int) -> list[Dims]:
        assert name in self._inputs and index == 0
        return [Dims(shape) for shape in self._header["profile"][name]]

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self._header)

    def create_execution_context(self) -> Context | None:
        if not self._world.contexts:
            self._logger.log(
                self._world.trt.ILogger.ERROR,
                "IExecutionContext::init: Error Code 1: Cuda Runtime (out of memory)",
            )
            return None
        return Context(self._world, self)


class Context:
    def __init__(self, world: World, engine: Engine) -> None:
        self._world, self._engine = world, engine
        self._addresses: dict[str, int] = {}
        self._shapes = {  # shapes of fixed inputs are known, open ones are not
            name: tuple(s[0]) if s[0] == s[2] else (-1, *s[0][1:])
            for name, s in engine._header["profile"].items()
        }
        self._fresh = True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        least, _, most = self._engine._header["profile"][name]
        if not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            return False
        self._shapes[name], self._fresh = tuple(shape), True
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        if name in self._shapes:
            return Dims(self._shapes[name])
        batch = {shape[0] for shape in self._shapes.values()}
        sides = self._engine._symbols[name]
        return Dims(
            side if isinstance(side, int) else (batch.pop() if len(batch) == 1 else -1) for side in sides
        )

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return self._world.gpu.inside(address, 1)

    def execute_async_v3(self, handle: int) -> bool:
        gpu = self._world.gpu
        stream = gpu.open.get(handle)
        ports = self._engine._ports
        ready = set(self._addresses) == set(ports) and not any(-1 in s for s in self._shapes.values())
        if stream is None or not ready or (gpu.capturing is not None and self._fresh):
            self._engine._logger.log(
                self._world.trt.ILogger.ERROR, "IExecutionContext::enqueueV3: Error Code 3"
            )
            return False
        self._fresh = False
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        gpu.put(stream, lambda: self._execute(shapes, addresses))
        return True

    def _execute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        ports, session = self._engine._ports, self._engine._session
        feeds = {}
        for name, shape in shapes.items():
            dtype = np.dtype(ARRAYS[ports[name]])
            size = dtype.itemsize * int(np.prod(shape))
            assert self._world.gpu.inside(addresses[name], size), f"{name}: outside of its buffer"
            feeds[name] = np.frombuffer(ctypes.string_at(addresses[name], size), dtype).reshape(shape)
        names = [port.name for port in session.get_outputs()]
        for name, array in zip(names, session.run(names, feeds), strict=True):
            assert self._world.gpu.inside(addresses[name], array.nbytes), f"{name}: outside of its buffer"
            ctypes.memmove(addresses[name], np.ascontiguousarray(array).ctypes.data, array.nbytes)


SIMULATED: dict[str, type] = {
    "Builder": Builder,
    "INetworkDefinition": Network,
    "ITensor": Tensor,
    "ILayer": Layer,
    "OnnxParser": Parser,
    "ParserError": ParserError,
    "IBuilderConfig": Config,
    "IOptimizationProfile": Profile,
    "ITimingCache": TimingCache,
    "IHostMemory": HostMemory,
    "Runtime": Runtime,
    "ICudaEngine": Engine,
    "EngineInspector": Inspector,
    "IExecutionContext": Context,
    "Dims": Dims,
}
"""Recorded class -> what acts behind it."""
