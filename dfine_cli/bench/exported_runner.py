"""The runners of exported files; checkpoints and sizes are exported first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.backends.detector import OpenOptions
from dfine_cli.backends.exported import EventTimer, ExportedDetector
from dfine_cli.bench.runner import TORCH_KINDS, ExportPrecision, Precision, RunnerOptions, Subject
from dfine_cli.errors import UsageError
from dfine_cli.types import Detections, Size


class _Batch(NamedTuple):
    """What passes from stage to stage: what the session knows, and the (height, width) of the originals."""

    content: Any
    sizes: Sequence[Size]


class ExportedRunner:
    """A ``Runner`` of an exported file.

    Args:
        detector: The file, opened.
        backend: Its name in the table of backends.
        trained: Whether its answers mean something.
    """

    def __init__(self, detector: ExportedDetector, backend: str, trained: bool) -> None:
        self._file = detector
        self._session = detector.session
        self.backend = backend
        self.model = detector.name
        self.size = detector.artefact.size
        self.input_size = detector.input_size
        self.num_classes = len(detector.classes) if detector.artefact.size else None
        self.device = detector.session.device
        self.precision = detector.session.precision
        self.detector = detector if trained else None

    @property
    def event_timer(self) -> EventTimer | None:
        """The clock of the device, where the runtime has one."""
        return self._session.event_timer

    def prepare(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> _Batch:
        """Images on the device as floats in [0, 1].

        Raises:
            UsageError: The file does not take so many images.
        """
        return _Batch(self._file.prepare(images, sizes), sizes)

    def engine(self, inputs: _Batch) -> _Batch:
        """One pass; what it gives stays on the device."""
        return _Batch(self._session.run(inputs.content), inputs.sizes)

    def finish(self, outputs: _Batch) -> list[Detections]:
        """The detections in the memory of the host."""
        return self._file.finish(*outputs)

    def sync(self) -> None:
        """Wait for the device."""
        self._session.sync()

    def peak_device_mb(self) -> float | None:
        """Memory on the device since the file was opened."""
        return self._session.peak_device_mb()


def open_onnx(
    subject: Subject,
    backend: str,
    options: RunnerOptions,
    provider: str,
    precision: ExportPrecision | None,
) -> ExportedRunner:
    """A runner on a provider of ONNX Runtime.

    Args:
        subject: An ONNX file, or what is exported to one.
        backend: Its name in the table of backends.
        options: What it is told.
        provider: Key of ``onnx_backend.PROVIDERS``.
        precision: What to export in; None for what the options say, else fp32.

    Raises:
        UsageError: The options do not fit the file or the backend.
        MissingError: The runtime, the provider or the device is not there.
        DfineError: The file cannot be read.
    """
    from dfine_cli.backends import onnx_backend

    device = _device_for(backend, options.device, ("cpu",) if provider == "cpu" else ("cuda",))
    target = "tensorrt" if provider == "tensorrt" else "onnx"
    file = _exported_file(subject, backend, options, target, precision or "fp32", only=precision is not None)
    detector = onnx_backend.open_onnx(file, _open_options(options, device, file == subject.path), provider)
    return ExportedRunner(detector, backend, _is_trained(subject))


def open_openvino(
    subject: Subject,
    backend: str,
    options: RunnerOptions,
    hint: Precision | None,
    precision: ExportPrecision | None,
) -> ExportedRunner:
    """A runner on OpenVINO.

    Args:
        subject: An OpenVINO or ONNX file, or what is exported to ONNX.
        backend: Its name in the table of backends.
        options: What it is told.
        hint: What OpenVINO may compute in; None for what the options say, else what it prefers.
        precision: What to export in; None for fp32.

    Raises:
        UsageError: The options do not fit the file or the backend.
        MissingError: OpenVINO or the device is not there.
        DfineError: The file cannot be read.
    """
    from dfine_cli.backends import openvino_backend

    device = _device_for(backend, options.device, ("cpu", "gpu"))
    if hint and options.precision not in (None, hint):
        raise UsageError(
            f"--precision {options.precision}: {backend} computes in {hint}", "use --backend openvino"
        )
    file = subject.path
    if file is None or subject.kind in TORCH_KINDS:
        file = _exported(subject, options, precision or "fp32", "openvino")
    detector = openvino_backend.open_openvino(
        file, _open_options(options, device, file == subject.path), hint or options.precision
    )
    return ExportedRunner(detector, backend, _is_trained(subject))


def open_tensorrt(subject: Subject, backend: str, options: RunnerOptions, graphs: bool) -> ExportedRunner:
    """A runner on TensorRT; checkpoints and sizes are built first, in fp16 unless the options say otherwise.

    Args:
        subject: An engine, or what is built into one.
        backend: Its name in the table of backends.
        options: What it is told.
        graphs: Launch each pass as one CUDA graph.

    Raises:
        UsageError: The options do not fit the file or the backend.
        MissingError: TensorRT, cuda-python or the GPU is not there.
        DfineError: The file cannot be read, or the engine not be built.
    """
    from dfine_cli.backends import tensorrt_backend

    device = _device_for(backend, options.device, ("cuda",))
    file = _exported_file(subject, backend, options, "tensorrt", "fp16")
    if file != subject.path:
        file = _built(file, device)
    detector = tensorrt_backend.open_engine(
        file, _open_options(options, device, file == subject.path), graphs
    )
    return ExportedRunner(detector, backend, _is_trained(subject))


def _built(onnx: Path, device: str) -> Path:
    """The engine of an ONNX file, beside it, built once."""
    from dfine_cli.artefact import read_sidecar
    from dfine_cli.export.tensorrt import BuildOptions, build_engine

    engine = onnx.with_suffix(".engine")
    artefact = read_sidecar(onnx)
    assert artefact is not None  # it was exported just now
    if not engine.is_file():
        build_engine(onnx, artefact, engine, BuildOptions(device))
    return engine


def _device_for(backend: str, device: str, kinds: Sequence[str]) -> str:
    """The device of a backend that has only some.

    Raises:
        UsageError: Another one is asked for.
    """
    if device == "auto":
        return kinds[0]
    if device.partition(":")[0] not in kinds:
        raise UsageError(
            f"--device {device}: {backend} runs on {' or '.join(kinds)}",
            "leave out --device, or choose another --backend",
        )
    return device


def _exported_file(
    subject: Subject,
    backend: str,
    options: RunnerOptions,
    target: str,
    usual: ExportPrecision,
    only: bool = False,
) -> Path:
    """The file of a subject, exported for ``target`` if it is none: in ``usual`` precision, or what the options say.

    Raises:
        UsageError: The options say what cannot be: for a file that is there, or if it can be ``only`` the usual.
    """
    wanted = options.precision
    if subject.path is not None and subject.kind not in TORCH_KINDS:
        if wanted is not None:
            raise UsageError(
                f"--precision {wanted}: {subject.path} has its own precision",
                "leave out --precision, or give the checkpoint",
            )
        return subject.path
    if wanted == "bf16" or (only and wanted is not None):
        raise UsageError(f"--precision {wanted}: not a precision of {backend}", "leave out --precision")
    return _exported(subject, options, wanted or usual, target)


def _exported(subject: Subject, options: RunnerOptions, precision: ExportPrecision, target: str) -> Path:
    from dfine_cli.bench.fresh_export import export_subject  # which loads torch

    return export_subject(subject, options, precision, target)


def _open_options(options: RunnerOptions, device: str, is_given: bool) -> OpenOptions:
    """For a file that was exported just now, the input size is settled."""
    return OpenOptions(device, options.input_size if is_given else None, None, options.threads)


def _is_trained(subject: Subject) -> bool:
    return subject.path is not None
