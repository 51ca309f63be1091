"""Exported files in OpenVINO: its own format, and ONNX."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfine_cli.artefact import KEY
from dfine_cli.backends.description import IMAGES, OUTPUTS, SIZES, Graph, describe
from dfine_cli.backends.detector import OpenOptions
from dfine_cli.backends.exported import ExportedDetector, Found
from dfine_cli.backends.openvino_core import openvino_core
from dfine_cli.backends.threads import count_cpus
from dfine_cli.errors import CheckError, DfineError, MissingError

HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
"""OpenVINO's names of what it may compute in."""
ELEMENT_TYPES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}
"""Our names of the types that layers compute in, by OpenVINO's."""
DESCRIPTIONS = ([KEY], ["framework", KEY])
"""Where a description is: in OpenVINO's format, and in an ONNX file that OpenVINO has read."""
LAYERS = ("Convolution", "MatMul", "FullyConnected")
"""Kinds of executed layers that decide how long a pass takes."""


class OpenvinoSession:
    """A ``Session`` of OpenVINO.

    The graph is compiled for one number of images when the first such batch comes: OpenVINO does better where
    it knows all shapes.

    Args:
        file: The ``.xml`` file, with its ``.bin`` beside it, or an ONNX file.
        device: ``cpu`` or ``gpu``.
        threads: CPU threads.
        precision: Key of ``HINTS``: what it may compute in; None for what OpenVINO prefers on this machine,
            which may be bf16 or fp16.

    Raises:
        DfineError: The file cannot be read.
        MissingError: OpenVINO or the device is not there.
    """

    def __init__(self, file: Path, device: str, threads: int, precision: str | None) -> None:
        self._file = file
        self.device = device
        self._core = openvino_core()
        if device.upper() not in self._core.available_devices:
            raise MissingError(
                f"device {device!r} is not there: OpenVINO finds {', '.join(self._core.available_devices)}",
                "use --device cpu",
            )
        self._settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if device == "cpu":
            self._settings["INFERENCE_NUM_THREADS"] = threads
        if precision is not None:
            self._settings["INFERENCE_PRECISION_HINT"] = HINTS[precision]
        self._requests: dict[int, Any] = {}
        self._model = self._read()

    def _read(self) -> Any:
        weights = self._file.with_suffix(".bin")
        if self._file.suffix.lower() == ".xml" and not weights.is_file():
            raise CheckError(
                f"{self._file}: its weights {weights.name} are not beside it", "copy both files together"
            )
        try:
            return self._core.read_model(self._file)
        except RuntimeError as error:
            raise CheckError(
                f"{self._file}: OpenVINO cannot load it: {last_line(error)}",
                "it is damaged, or of a newer OpenVINO; export or copy it again",
            ) from error

    @property
    def precision(self) -> str:
        """The types that convolutions and products are computed in, the most frequent first."""
        return " + ".join(layer_types(self._request(next(iter(self._requests), 1)).get_compiled_model()))

    @property
    def embedded(self) -> str | None:
        """The description in the file."""
        for place in DESCRIPTIONS:
            if self._model.has_rt_info(place):
                return str(self._model.get_rt_info(place).astype(str))
        return None

    @property
    def graph(self) -> Graph:
        """Names and shapes."""
        return Graph(
            {
                port.any_name: [side.get_length() if side.is_static else None for side in port.partial_shape]
                for port in self._model.inputs
            },
            [name for port in self._model.outputs for name in port.names],
        )

    @property
    def event_timer(self) -> None:
        """A pass returns when it is done, so the clock of the host does."""

    def prepare(self, images: NDArray[np.float32], sizes_wh: NDArray[np.int64]) -> Any:
        """The arrays by name, and what runs so many; see ``Session.prepare``."""
        arrays = {IMAGES: images, SIZES: sizes_wh}
        return self._request(len(images), images.shape[2:]), {
            port.any_name: arrays[port.any_name] for port in self._model.inputs
        }

    def run(self, inputs: Any) -> Any:
        """One pass; see ``Session.run``."""
        request, arrays = inputs
        try:
            return request.infer(arrays, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise self._failed(error) from error

    def fetch(self, outputs: Any) -> Found:
        """What a pass gave, before the next one writes over it; see ``Session.fetch``."""
        labels, boxes, scores = (outputs[name] for name in OUTPUTS)
        return Found(labels.astype(np.int64), boxes.astype(np.float32), scores.astype(np.float32))

    def sync(self) -> None:
        """Nothing: a pass returns when it is done."""

    def peak_device_mb(self) -> None:
        """Not known."""

    def _request(self, count: int, size: tuple[int, ...] | None = None) -> Any:
        if count not in self._requests:
            graph = self.graph
            height, width = size or graph.inputs[IMAGES][2:]
            model = self._model.clone()
            shapes = {IMAGES: [count, 3, height, width], SIZES: [count, 2]}
            try:
                model.reshape({name: shapes[name] for name in graph.inputs})
                compiled = self._core.compile_model(model, self.device.upper(), self._settings)
            except RuntimeError as error:
                raise self._failed(error) from error
            self._requests[count] = compiled.create_infer_request()
        return self._requests[count]

    def _failed(self, error: RuntimeError) -> DfineError:
        return DfineError(
            f"{self._file}: OpenVINO fails: {last_line(error)}",
            "try --batch 1; if that fails too, export the checkpoint again",
        )


def open_openvino(file: Path, options: OpenOptions, precision: str | None = "fp32") -> ExportedDetector:
    """The detector in an OpenVINO or ONNX file of ``dfine export``.

    Args:
        file: The ``.xml`` or ``.onnx`` file.
        options: Device, threads, and what the file does not say.
        precision: See ``OpenvinoSession``. Left to itself OpenVINO takes bf16 or fp16 on machines that have it,
            and scores differ from machine to machine.

    Raises:
        DfineError: The file cannot be read, or holds another network.
        UsageError: The options contradict the file.
        MissingError: OpenVINO or the device is not there.
    """
    device = "cpu" if options.device == "auto" else options.device
    session = OpenvinoSession(file, device, options.threads or count_cpus(), precision)
    artefact = describe(file, session.embedded, session.graph, options)
    return ExportedDetector(session, artefact, file, told_classes=options.classes is not None)


def layer_types(compiled: Any) -> list[str]:
    """What the layers that count compute in, the most frequent type first, as the compiled graph says.

    Of a graph without such layers: what OpenVINO was allowed to compute in.
    """
    found: Counter[str] = Counter()
    for layer in compiled.get_runtime_model().get_ordered_ops():
        about = layer.get_rt_info()
        if about["layerType"].astype(str) in LAYERS:
            found[about["runtimePrecision"].astype(str).lower()] += 1
    kinds = [kind for kind, _ in found.most_common()]
    kinds = kinds or [compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()]
    return list(dict.fromkeys(ELEMENT_TYPES.get(kind, kind) for kind in kinds))


def last_line(error: RuntimeError) -> str:
    """What is wrong, below the lines that say where in OpenVINO's own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else str(error)
    return text if len(text) <= 200 else f"{text[:200]}…"
