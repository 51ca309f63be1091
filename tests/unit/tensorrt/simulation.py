"""What lies behind the recorded surface: a TensorRT that "builds" a file around an ONNX graph and runs that in
ONNX Runtime, on the memory of ``FakeGpu``. Messages and answers on failure are those of the real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from tests.unit.tensorrt.fake_cuda import FakeGpu

MAGIC = b"simulated engine\0"
NAMES = {
    TensorProto.FLOAT: ("Float", "FLOAT"),
    TensorProto.FLOAT16: ("Half", "HALF"),
    TensorProto.INT64: ("Int64", "INT64"),
    TensorProto.INT32: ("Int32", "INT32"),
    TensorProto.BOOL: ("Bool", "BOOL"),
    TensorProto.INT8: ("Int8", "INT8"),
}
"""How the inspector and ``DataType`` call a type of ONNX."""
ARRAYS = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64, "INT32": np.int32}


@dataclass
class World:
    """A machine with TensorRT.

    Attributes:
        version: Of TensorRT.
        gpu: The GPU.
        refused: Operators that the parser does not know.
        build_error: What the builder logs before it gives up.
        build_warning: What it logs and goes on.
        starts: Whether TensorRT can use the GPU.
        on_step: Called at every step of a build.
        contexts: Whether there is memory for an execution context.
        timings: Measured by builds; those of the cache are not measured again.
    """

    version: str
    gpu: FakeGpu
    refused: set[str] = field(default_factory=set)
    build_error: str = ""
    build_warning: str = ""
    starts: bool = True
    contexts: bool = True
    on_step: Callable[[], None] | None = None
    timings: int = 0
    workspace: int | None = None
    trt: Any = None

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def started(world: World, logger: Any) -> Any:
    if not world.starts:
        logger.log(world.trt.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")
    return logger


class HostMemory(bytes):
    pass


class Dims(tuple):
    __slots__ = ()


class Tensor:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, Dims(shape)


class Layer:
    """A layer; all operators but one are called identities here, since nobody asks."""

    def __init__(self, world: World, operator: str) -> None:
        types = world.trt.LayerType
        self.type = types.GRID_SAMPLE if operator == "GridSample" else types.IDENTITY


class Network:
    def __init__(self, world: World, flags: int) -> None:
        self._world, self.flags = world, flags
        self.graph: onnx.ModelProto | None = None
        self.inputs: list[Tensor] = []

    @property
    def num_layers(self) -> int:
        return len(self.graph.graph.node)

    def get_layer(self, index: int) -> Layer:
        return Layer(self._world, self.graph.graph.node[index].op_type)

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]


class ParserError:
    def __init__(self, node: int, name: str, operator: str, text: str) -> None:
        self._values = (node, name, operator, text)

    def node(self) -> int:
        return self._values[0]

    def node_name(self) -> str:
        return self._values[1]

    def node_operator(self) -> str:
        return self._values[2]

    def desc(self) -> str:
        return self._values[3]


class Parser:
    def __init__(self, world: World, network: Any, logger: Any) -> None:
        self._world, self._network = world, network._sim
        self._errors: list[ParserError] = []

    def parse_from_file(self, model: str) -> bool:
        try:
            graph = onnx.load(model)
        except DecodeError:
            self._errors.append(ParserError(-1, "", "", "Failed to parse ONNX model from file"))
            return False
        for index, node in enumerate(graph.graph.node):
            if node.op_type in self._world.refused:
                text = f"No importer registered for op: {node.op_type}.\nAttempting to import as plugin."
                self._errors.append(ParserError(index, node.name, node.op_type, text))
        self._network.graph = graph
        self._network.inputs = [Tensor(port.name, shape_of(port)) for port in graph.graph.input]
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


def shape_of(port: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in port.type.tensor_type.shape.dim)


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        self.shapes[name] = [list(least), list(usual), list(most)]


class TimingCache:
    def __init__(self, world: World, content: bytes) -> None:
        self.world, self.content = world, content

    def serialize(self) -> HostMemory:
        return HostMemory(self.content)


class Config:
    def __init__(self, world: World) -> None:
        self._world = world
        self.profiling_verbosity: Any = None
        self.progress_monitor: Any = None
        self.profiles: list[Profile] = []
        self._cache: TimingCache | None = None

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        assert pool.name == "WORKSPACE"
        self._world.workspace = size

    def add_optimization_profile(self, profile: Profile) -> int:
        least_most = [(s[0], s[1], s[2]) for s in profile.shapes.values()]
        if not all(
            a <= b <= c for low, mid, high in least_most for a, b, c in zip(low, mid, high, strict=True)
        ):
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> TimingCache | None:
        whole = not content or bytes(content).startswith(b"times ")
        return TimingCache(self._world, bytes(content)) if whole else None

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if cache.content and not ignore_mismatch and self._world.version.encode() not in cache.content:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self._cache


class Builder:
    def __init__(self, world: World, logger: Any) -> None:
        self._world, self._logger = world, started(world, logger)

    def create_network(self, flags: int) -> Network:
        return Network(self._world, flags)

    def create_builder_config(self) -> Config:
        return Config(self._world)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None:
        world, log = self._world, self._logger.log
        levels = world.trt.ILogger
        if world.build_warning:
            log(levels.WARNING, world.build_warning)
        open_inputs = [port.name for port in network.inputs if -1 in port.shape]
        if open_inputs and not config.profiles:
            log(
                levels.ERROR,
                "Error Code 4: Network has dynamic or shape inputs, but no optimization profile.",
            )
            return None
        if not self._go_through(config.progress_monitor):
            return None
        if world.build_error:
            log(levels.ERROR, world.build_error)
            return None
        if not (config._cache and config._cache.content):
            world.timings += 1
        if config._cache:
            config._cache.content = f"times of {world.version}".encode()
        return HostMemory(self._serialize(network, config))

    def _go_through(self, monitor: Any) -> bool:
        if monitor is None:
            return True
        monitor.phase_start("Building Engine", None, 4)
        monitor.phase_start("Tactics", "Building Engine", 100)
        for step in range(4):
            if self._world.on_step:
                self._world.on_step()
            monitor.step_complete("Tactics", step)
            if not monitor.step_complete("Building Engine", step):
                return False
        monitor.phase_finish("Tactics")
        monitor.phase_finish("Building Engine")
        return True

    def _serialize(self, network: Network, config: Config) -> bytes:
        world, graph = self._world, network.graph
        assert graph is not None
        strong = 1 << world.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED.value
        shapes = config.profiles[0].shapes if config.profiles else {}
        header = {
            "version": world.version,
            "capability": world.gpu.capability,
            "strong": world.major > 10 or bool(network.flags & strong),
            "profile": {p.name: shapes.get(p.name, [list(p.shape)] * 3) for p in network.inputs},
            "layers": layers(graph, world.major)
            if config.profiling_verbosity.name == "DETAILED"
            else ["a", "b"],
        }
        text, model = json.dumps(header).encode(), graph.SerializeToString()
        return MAGIC + len(text).to_bytes(4, "little") + len(model).to_bytes(8, "little") + text + model


def layers(graph: onnx.ModelProto, major: int) -> list[dict[str, Any]]:
    """What the inspector tells: in 11 the type has an entry of its own."""
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    known = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    found = []
    for node in graph.graph.node:
        word = NAMES[known[node.output[0]]][0]
        kind = {"Format/Datatype": word} if major < 11 else {"Format": "Row major linear", "DataType": word}
        found.append({"Name": node.name, "LayerType": node.op_type, "Inputs": [], "Outputs": [kind]})
    return found
