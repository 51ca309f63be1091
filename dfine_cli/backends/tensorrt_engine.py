"""A TensorRT engine on one GPU: opened with reasons if it cannot be, fed, run, timed and read. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.artefact import Artefact, read_sidecar
from dfine_cli.backends.cuda import Cuda, Graph, as_bytes
from dfine_cli.backends.engine_origin import explain_refusal, refuse_foreign
from dfine_cli.backends.tensorrt_log import Log, import_tensorrt, listen, start
from dfine_cli.errors import DfineError, UsageError

Shape = tuple[int, ...]
DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}
"""TensorRT's name of a type and NumPy's, for those that NumPy has."""


class Port(NamedTuple):
    """An input or output of an engine."""

    name: str
    dtype: np.dtype[Any]
    is_input: bool
    shapes: tuple[Shape, ...]
    """Least, usual and most that the profile allows; empty for an output."""


class _Buffer(NamedTuple):
    address: int
    size: int


class Engine:
    """An engine with its buffers; ``load``, ``run`` and ``read`` make a pass.

    Args:
        file: Where it came from, for messages.
        plan: The engine as TensorRT opened it.
        cuda: The GPU it runs on.
        trt: The module ``tensorrt``.
        log: What TensorRT said so far, and says from here on.
        artefact: Its description; None if it has none.

    Raises:
        DfineError: The GPU has no memory left for it, or a tensor has a type that cannot be fed.
    """

    def __init__(
        self, file: Path, plan: Any, cuda: Cuda, trt: ModuleType, log: Log, artefact: Artefact | None
    ) -> None:
        self.file = file
        self.plan = plan
        self.cuda = cuda
        self.trt = trt
        self.log = log
        self.artefact = artefact
        self.origin: tuple[Any, ...] = ()
        """What must outlive the engine."""
        self._free_mb = cuda.free_memory_mb()
        self._buffers: dict[str, _Buffer] = {}
        self._graph: Graph | None = None
        self._context = plan.create_execution_context()
        if self._context is None:
            raise DfineError(
                f"{file}: the GPU cannot run it: {log.last_error() or 'no execution context'}",
                "free memory of the GPU (see `nvidia-smi`), or build the engine for a smaller batch",
            )
        self.ports = {port.name: port for port in map(self._port, range(plan.num_io_tensors))}

    def _port(self, index: int) -> Port:
        plan, trt = self.plan, self.trt
        name = plan.get_tensor_name(index)
        kind = plan.get_tensor_dtype(name).name
        if kind not in DTYPES:
            raise DfineError(
                f"{self.file}: tensor {name} has type {kind}, which cannot be fed",
                "use an engine of `dfine export`",
            )
        is_input = plan.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        profile = plan.get_tensor_profile_shape(name, 0) if is_input else ()
        return Port(name, np.dtype(DTYPES[kind]), is_input, tuple(tuple(shape) for shape in profile))

    @property
    def inputs(self) -> dict[str, Port]:
        """What it takes."""
        return {name: port for name, port in self.ports.items() if port.is_input}

    @property
    def outputs(self) -> dict[str, Port]:
        """What it gives."""
        return {name: port for name, port in self.ports.items() if not port.is_input}

    @property
    def memory_mb(self) -> float:
        """Memory of the device that went since the engine was opened, whoever took it."""
        return max(0.0, self._free_mb - self.cuda.free_memory_mb())

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy the inputs of a pass to the device.

        Args:
            arrays: One array per input; they are cast to the type that the engine takes.

        Raises:
            UsageError: An input is missing or unknown, or has a shape that the profile does not allow.
            MemoryError: The GPU has no memory left for it.
        """
        if set(arrays) != set(self.inputs):
            raise UsageError(
                f"{self.file}: takes {', '.join(self.inputs)}, not {', '.join(arrays)}",
                "use an engine of `dfine export`",
            )
        cast = {name: np.ascontiguousarray(arrays[name], port.dtype) for name, port in self.inputs.items()}
        for name, array in cast.items():
            port = self.ports[name]
            self._check(port, array.shape)
            self._reserve(name, as_bytes(port.dtype, array.shape))
            if tuple(self._context.get_tensor_shape(name)) != array.shape:
                self._drop_graph()  # it holds the shapes it was captured with
                self._told(self._context.set_input_shape(name, array.shape), f"the shape of {name}")
            self.cuda.upload(array, self._buffers[name].address)
        for name in self.outputs:
            self._reserve(name, as_bytes(self.outputs[name].dtype, self._output_shape(name)))
        self.cuda.sync()  # the arrays must live until here

    def run(self) -> None:
        """Put one pass over what is loaded into the stream; nothing is copied and nothing waited for.

        Raises:
            DfineError: TensorRT refuses.
        """
        if self._graph is not None:
            self._graph.launch()
        else:
            self._told(self._context.execute_async_v3(self.cuda.stream_handle), "a pass")

    def capture(self) -> None:
        """Make one CUDA graph of a pass over the loaded shapes; ``run`` launches it until a shape changes."""
        self._drop_graph()
        self.run()  # the first pass after a change does work that cannot be captured
        self.cuda.sync()
        self._graph = self.cuda.capture(self.run)

    @property
    def is_captured(self) -> bool:
        """Whether ``run`` launches a graph."""
        return self._graph is not None

    def read(self) -> dict[str, NDArray[Any]]:
        """The outputs of the last pass in the memory of the host."""
        found = {}
        for name, port in self.outputs.items():
            found[name] = np.empty(self._output_shape(name), port.dtype)
            self.cuda.download(self._buffers[name].address, found[name])
        self.cuda.sync()
        return found

    def time_ms(self, call: Callable[[], Any]) -> tuple[Any, float]:
        """The result of a call and its milliseconds by CUDA events."""
        return self.cuda.time_ms(call)

    def close(self) -> None:
        """Give all memory of the device back."""
        self._drop_graph()
        for buffer in self._buffers.values():
            self.cuda.free(buffer.address)
        self._buffers.clear()
        self._context = self.plan = None
        self.cuda.close()

    def _check(self, port: Port, shape: Shape) -> None:
        least, _, most = port.shapes
        if len(shape) != len(most) or any(
            not low <= side <= high for low, side, high in zip(least[1:], shape[1:], most[1:], strict=True)
        ):
            raise UsageError(
                f"{self.file}: {port.name} is {_by(shape)}, the engine takes {_by(most)}",
                "give images of the size it was built for, or build it for this one",
            )
        if not least[0] <= shape[0] <= most[0]:
            takes = str(most[0]) if least[0] == most[0] else f"{least[0]} to {most[0]}"
            raise UsageError(
                f"{self.file}: a batch of {shape[0]} does not fit, its profile takes {takes}",
                f"use a batch that fits, or export it again with --batch {least[0]},{most[0]},{max(shape[0], most[0])}",
            )

    def _output_shape(self, name: str) -> Shape:
        shape = tuple(self._context.get_tensor_shape(name))
        if -1 in shape:
            raise DfineError(
                f"{self.file}: the shape of {name} is known only after a pass: {_by(shape)}",
                "use an engine of `dfine export`, which always gives the same number of detections",
            )
        return shape

    def _reserve(self, name: str, size: int) -> None:
        """A buffer of at least ``size`` bytes, known to the engine as ``name``."""
        present = self._buffers.get(name)
        if present is not None and present.size >= size:
            return
        self._drop_graph()  # it holds the address
        address = self.cuda.allocate(size)
        if present is not None:
            self.cuda.free(present.address)
        self._buffers[name] = _Buffer(address, size)
        self._told(self._context.set_tensor_address(name, address), f"the address of {name}")

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _told(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise DfineError(
                f"{self.file}: TensorRT refuses {what}: {self.log.last_error() or 'it does not say why'}",
                "build the engine again on this machine",
            )


def open_plan(file: Path, device: str = "auto") -> Engine:
    """Open a file of TensorRT.

    Args:
        file: The engine.
        device: ``auto``, ``cuda`` or ``cuda:1``.

    Raises:
        UsageError: ``device`` is no GPU.
        MissingError: TensorRT, cuda-python, the driver or the GPU is not there.
        DfineError: The file is damaged, or was built for another GPU or by another version of TensorRT.
    """
    trt = import_tensorrt()
    cuda = Cuda(device)
    try:
        return _open_on(cuda, file, trt)
    except BaseException:
        cuda.close()
        raise


def _open_on(cuda: Cuda, file: Path, trt: ModuleType) -> Engine:
    artefact = read_sidecar(file)
    data = file.read_bytes()
    refuse_foreign(file, len(data), artefact, trt.__version__, cuda.facts)
    log = Log()
    logger = listen(trt, log)
    runtime = start(trt.Runtime, logger, log)
    plan = runtime.deserialize_cuda_engine(data)
    if plan is None:
        raise explain_refusal(file, log, trt.__version__, cuda.facts)
    engine = Engine(file, plan, cuda, trt, log, artefact)
    engine.origin = (runtime, logger)
    return engine


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))
