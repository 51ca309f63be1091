"""Exported ONNX files in ONNX Runtime, on a CPU or a GPU of NVIDIA."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfine_cli.artefact import KEY
from dfine_cli.backends.description import IMAGES, OUTPUTS, SIZES, Graph, describe
from dfine_cli.backends.detector import OpenOptions
from dfine_cli.backends.exported import ExportedDetector, Found
from dfine_cli.backends.threads import count_cpus
from dfine_cli.errors import CheckError, DfineError, MissingError
from dfine_cli.optional import need

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""What runs the graph, by the name of it in this package. What the last two cannot run is left to those before."""


class OnnxSession:
    """A ``Session`` of ONNX Runtime.

    Args:
        file: The ONNX file.
        provider: Key of ``PROVIDERS``.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        threads: CPU threads.

    Raises:
        DfineError: The file cannot be read.
        MissingError: ONNX Runtime, or this provider of it, is not there.
    """

    def __init__(self, file: Path, provider: str, device: str, threads: int) -> None:
        self._runtime = need("onnxruntime")
        kind, _, number = device.partition(":")
        self._place = (kind, int(number or 0))
        self._file = file
        self._failures = failures(self._runtime)
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong is in the exception
        try:
            self._session = self._runtime.InferenceSession(
                str(file), options, providers=self._providers(provider, device)
            )
        except self._failures as error:
            raise CheckError(
                f"{file}: ONNX Runtime cannot load it: {first_line(error)}",
                "it is damaged, or of a newer opset; export or copy it again",
            ) from error
        if self._session.get_providers()[0] != PROVIDERS[provider]:  # it falls back without a word
            raise MissingError(
                f"ONNX Runtime cannot start its {PROVIDERS[provider]}",
                "see that its CUDA, cuDNN and TensorRT are installed, or use --device cpu",
            )

    def _providers(self, provider: str, device: str) -> list[Any]:
        present = self._runtime.get_available_providers()
        if PROVIDERS[provider] not in present:
            raise MissingError(
                f"device {device!r} is not there: this ONNX Runtime has no {PROVIDERS[provider]}",
                "pip install onnxruntime-gpu, or use --device cpu",
            )
        names = list(PROVIDERS)[: list(PROVIDERS).index(provider) + 1]
        return [
            (PROVIDERS[name], {} if name == "cpu" else {"device_id": self._place[1]})
            for name in reversed(names)
        ]

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:0`` and so on."""
        kind, number = self._place
        return kind if kind == "cpu" else f"{kind}:{number}"

    @property
    def precision(self) -> str:
        """The types of the weights in the file."""
        from dfine_cli.backends.onnx_precision import weight_types

        return weight_types(self._file)

    @property
    def embedded(self) -> str | None:
        """The description in the file."""
        found: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found.get(KEY)

    @property
    def graph(self) -> Graph:
        """Names and shapes."""
        return Graph(
            {
                port.name: [side if isinstance(side, int) else None for side in port.shape]
                for port in self._session.get_inputs()
            },
            [port.name for port in self._session.get_outputs()],
        )

    @property
    def event_timer(self) -> None:
        """A pass returns when it is done, so the clock of the host does."""

    def prepare(self, images: NDArray[np.float32], sizes_wh: NDArray[np.int64]) -> Any:
        """Inputs on the device; see ``Session.prepare``."""
        binding = self._session.io_binding()
        arrays = {IMAGES: images, SIZES: sizes_wh}
        for port in self._session.get_inputs():
            value = self._runtime.OrtValue.ortvalue_from_numpy(arrays[port.name], *self._place)
            binding.bind_ortvalue_input(port.name, value)
        for name in OUTPUTS:
            binding.bind_output(name, *self._place)
        return binding

    def run(self, inputs: Any) -> Any:
        """One pass; see ``Session.run``."""
        try:
            self._session.run_with_iobinding(inputs)
        except self._failures as error:
            if "Failed to allocate memory" in str(error):
                raise MemoryError from error
            raise DfineError(
                f"{self._file}: ONNX Runtime fails: {first_line(error)}",
                "try --batch 1; if that fails too, export the checkpoint again",
            ) from error
        return inputs

    def fetch(self, outputs: Any) -> Found:
        """What a pass gave; see ``Session.fetch``."""
        labels, boxes, scores = outputs.copy_outputs_to_cpu()
        return Found(labels.astype(np.int64), boxes.astype(np.float32), scores.astype(np.float32))

    def sync(self) -> None:
        """Nothing: ONNX Runtime waits for its device before a pass returns."""

    def peak_device_mb(self) -> None:
        """Not known."""


def open_onnx(file: Path, options: OpenOptions, provider: str | None = None) -> ExportedDetector:
    """The detector in an ONNX file of ``dfine export``, or of another tool with the same inputs and outputs.

    Args:
        file: The ONNX file.
        options: Device, threads, and what the file does not say.
        provider: Key of ``PROVIDERS``; None for that of the device.

    Raises:
        DfineError: The file cannot be read, or holds another network.
        UsageError: The options contradict the file.
        MissingError: ONNX Runtime or the device is not there.
    """
    device = choose_device(options.device)
    kind = device.partition(":")[0]
    session = OnnxSession(file, provider or kind, device, options.threads or count_cpus())
    artefact = describe(file, session.embedded, session.graph, options)
    return ExportedDetector(session, artefact, file, told_classes=options.classes is not None)


def choose_device(name: str) -> str:
    """The device called ``name``; ``auto`` takes a GPU where this ONNX Runtime has a provider for it.

    Raises:
        MissingError: There is no such device here.
    """
    if name == "auto":
        return "cuda" if PROVIDERS["cuda"] in need("onnxruntime").get_available_providers() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise MissingError(f"device {name!r} is not there: ONNX Runtime has cpu and cuda", "use --device cpu")
    return name


def failures(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its exceptions have no parent of their own."""
    state = runtime.capi.onnxruntime_pybind11_state
    names = (
        "EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile",
        "NotImplemented", "RuntimeException",
    )  # fmt: skip
    return tuple(getattr(state, name) for name in names)


def first_line(error: Exception) -> str:
    """The beginning of a message of the runtime."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}…"
