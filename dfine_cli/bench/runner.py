"""One model on one backend, cut into stages where a clock can be read, and the table of backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from dfine_cli.errors import UsageError
from dfine_cli.types import Detections, Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dfine_cli.backends.detector import Detector
    from dfine_cli.backends.exported import EventTimer

Precision = Literal["fp32", "fp16", "bf16"]
"""What a runtime may be told to compute in."""
ExportPrecision = Literal["fp32", "fp16", "int8"]
"""What a graph may be written in."""


class Runner(Protocol):
    """A model that is ready to run.

    ``finish(engine(prepare(...)))`` is a whole pass over a batch. The cut is the same for every backend: the
    engine pass begins with float images in the memory of the device and ends with the best labels, boxes in
    pixels and scores there.
    """

    @property
    def model(self) -> str:
        """What it is, such as ``dfine-n``."""

    @property
    def size(self) -> str | None:
        """Its row of ``model.sizes.SIZES``; None if it is another network."""

    @property
    def backend(self) -> str:
        """Its key in ``BACKENDS``."""

    @property
    def device(self) -> str:
        """``cpu``, ``cuda:0`` and so on."""

    @property
    def precision(self) -> str:
        """What it computes in, read from what runs and not from what was asked for."""

    @property
    def input_size(self) -> Size:
        """(height, width) in pixels."""

    @property
    def num_classes(self) -> int | None:
        """C; None if a file does not say."""

    @property
    def detector(self) -> Detector | None:
        """The same as a detector, so that what was timed is what is scored; None for an untrained model."""

    @property
    def event_timer(self) -> EventTimer | None:
        """The clock of the device for an engine pass; None where the host's clock does."""

    def prepare(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> Any:
        """Inputs of the engine from [B, 3, H, W] RGB and the (height, width) of the original images."""

    def engine(self, inputs: Any) -> Any:
        """The network and the choice of the best detections."""

    def finish(self, outputs: Any) -> list[Detections]:
        """What the engine gave, in the memory of the host, image by image."""

    def sync(self) -> None:
        """Wait until the device has done all it was told."""

    def peak_device_mb(self) -> float | None:
        """Peak memory on the device since it was opened; None where it is the host's."""


class Subject(NamedTuple):
    """What is to be measured: a file, or a size with fresh weights."""

    text: str
    """As the user wrote it."""
    path: Path | None
    """None for a size."""
    size: str | None
    """None for a file."""

    @property
    def kind(self) -> str:
        """The suffix of the file; ``SIZE`` for a size."""
        return SIZE if self.path is None else self.path.suffix.lower()


@dataclass(frozen=True)
class RunnerOptions:
    """What a backend may be told; each takes what concerns it and refuses what it cannot do.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        threads: CPU threads.
        precision: None leaves the backend what it does by itself.
        input_size: (height, width) in pixels; None leaves the model its own.
        num_classes: C of a model with fresh weights.
        batches: Images in one pass, all that will be measured.
        folder: Where to write what has to be exported first.
        calibration: Images for int8; without any, ranges are found on noise, which does for the latency.
    """

    device: str
    threads: int
    precision: Precision | None
    input_size: Size | None
    num_classes: int
    batches: tuple[int, ...] = (1,)
    folder: Path | None = None
    calibration: tuple[Path, ...] = ()


Opener = Callable[[Subject, str, RunnerOptions], Runner]
"""Opens a subject on the backend of a name."""


class Backend(NamedTuple):
    """A row of ``BACKENDS``."""

    kinds: frozenset[str]
    """Kinds of subjects it runs."""
    open: Opener
    meaning: str


SIZE = "size"
"""The kind of a subject that is a size and not a file."""
TORCH_KINDS = frozenset({SIZE, ".pt", ".pth", ".safetensors", ".bin"})
"""What PyTorch runs, and other backends once it is exported."""


def _torch(subject: Subject, backend: str, options: RunnerOptions) -> Runner:
    from dfine_cli.bench.torch_runner import open_torch

    return open_torch(subject, backend, options)


def _onnx(provider: str, precision: ExportPrecision | None = None) -> Opener:
    def open_it(subject: Subject, backend: str, options: RunnerOptions) -> Runner:
        from dfine_cli.bench.exported_runner import open_onnx

        return open_onnx(subject, backend, options, provider, precision)

    return open_it


def _openvino(hint: Precision | None, precision: ExportPrecision | None = None) -> Opener:
    def open_it(subject: Subject, backend: str, options: RunnerOptions) -> Runner:
        from dfine_cli.bench.exported_runner import open_openvino

        return open_openvino(subject, backend, options, hint, precision)

    return open_it


def _tensorrt(graphs: bool) -> Opener:
    def open_it(subject: Subject, backend: str, options: RunnerOptions) -> Runner:
        from dfine_cli.bench.exported_runner import open_tensorrt

        return open_tensorrt(subject, backend, options, graphs)

    return open_it


_ENGINE_KINDS = TORCH_KINDS | {".engine"}
_ONNX_KINDS = TORCH_KINDS | {".onnx"}
_OPENVINO_KINDS = _ONNX_KINDS | {".xml"}
BACKENDS: dict[str, Backend] = {
    "fused": Backend(TORCH_KINDS, _torch, "PyTorch, norms and branches folded into convolutions"),
    "eager": Backend(TORCH_KINDS, _torch, "PyTorch, the model as it is trained"),
    "compiled": Backend(TORCH_KINDS, _torch, "PyTorch, fused and then torch.compile"),
    "onnxruntime": Backend(_ONNX_KINDS, _onnx("cpu"), "ONNX Runtime on the CPU"),
    "onnxruntime-int8": Backend(
        TORCH_KINDS, _onnx("cpu", "int8"), "ONNX Runtime on the CPU, exported in int8"
    ),
    "onnxruntime-cuda": Backend(_ONNX_KINDS, _onnx("cuda"), "ONNX Runtime, its CUDA provider"),
    "onnxruntime-tensorrt": Backend(_ONNX_KINDS, _onnx("tensorrt"), "ONNX Runtime, its TensorRT provider"),
    "openvino": Backend(_OPENVINO_KINDS, _openvino(None), "OpenVINO, in the precision it prefers here"),
    "openvino-f32": Backend(_OPENVINO_KINDS, _openvino("fp32"), "OpenVINO, in single precision"),
    "openvino-int8": Backend(TORCH_KINDS, _openvino(None, "int8"), "OpenVINO, exported in int8"),
    "tensorrt": Backend(_ENGINE_KINDS, _tensorrt(graphs=False), "TensorRT, timed by CUDA events"),
    "tensorrt-graph": Backend(_ENGINE_KINDS, _tensorrt(graphs=True), "TensorRT, each pass one CUDA graph"),
}
"""All backends by name; each imports its runtime only when it is opened. The first that runs a kind is its default.
Those that run exported files export checkpoints and sizes themselves."""


def backends_for(subject: Subject, names: Sequence[str]) -> list[str]:
    """The backends of ``names`` that run ``subject``; the default one if no names are given.

    Raises:
        UsageError: A name is unknown, or none of them runs it.
    """
    unknown = [name for name in names if name not in BACKENDS]
    if unknown:
        raise UsageError(f"unknown backend {unknown[0]!r}", f"known: {', '.join(BACKENDS)}")
    able = [name for name, row in BACKENDS.items() if subject.kind in row.kinds]
    if not able:
        kinds = sorted({kind for row in BACKENDS.values() for kind in row.kinds} - {SIZE})
        raise UsageError(
            f"{subject.text}: no backend runs a `{subject.kind or 'suffixless'}` file",
            f"known: {', '.join(kinds)}",
        )
    chosen = [name for name in able if name in names] if names else able[:1]
    if not chosen:
        raise UsageError(
            f"{subject.text}: not run by {', '.join(names)}", f"backends for it: {', '.join(able)}"
        )
    return chosen
