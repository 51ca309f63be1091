"""The runners of PyTorch: as trained, fused, and compiled."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfine_cli.backends.exported import EventTimer
from dfine_cli.backends.published import open_published
from dfine_cli.backends.torch_backend import choose_device, open_checkpoint
from dfine_cli.bench.runner import Precision, RunnerOptions, Subject
from dfine_cli.data.classes import ClassMap
from dfine_cli.errors import MissingError
from dfine_cli.model.dfine import DFINE, build_model, check_input_size
from dfine_cli.model.postprocess import postprocess
from dfine_cli.types import Detections, ModelOutput, Size

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class _Inputs(NamedTuple):
    images: Tensor
    """[B, 3, H, W] in [0, 1]."""
    sizes_wh: Tensor
    """[B, 2] (width, height) of the originals in pixels."""


class Source(NamedTuple):
    """A model as it is trained, and what is known about it."""

    model: DFINE
    name: str
    input_size: Size
    classes: ClassMap | None
    exif: Literal["apply", "ignore"]


class TorchRunner:
    """A ``Runner`` on PyTorch.

    Args:
        source: Where the model comes from.
        network: What runs; the model of ``source`` in one of ``FORMS``, on ``device``.
        backend: Its name in the table of backends.
        device: Where it runs.
        precision: Below fp32: what autocast computes convolutions and products in.
    """

    def __init__(
        self, source: Source, network: nn.Module, backend: str, device: torch.device, precision: Precision
    ) -> None:
        self.network = network
        self.backend = backend
        self.model = source.name
        self.size: str | None = source.model.size
        self.input_size = source.input_size
        self.num_classes: int | None = source.model.num_classes
        self.detector = None if source.classes is None else _RunnerDetector(self, source.classes, source.exif)
        self.device = str(device)
        self._device = device
        self._autocast = DTYPES[precision] if precision != "fp32" else None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def precision(self) -> str:
        """The type of the weights, and of autocast's products if that is on."""
        weights = _NAMES[next(self.network.parameters()).dtype]
        return weights if self._autocast is None else f"{_NAMES[self._autocast]} autocast, {weights} weights"

    @property
    def event_timer(self) -> EventTimer | None:
        """CUDA events on a GPU of NVIDIA."""
        return _time_by_events if self._device.type == "cuda" else None

    def prepare(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> _Inputs:
        """Images on the device as floats in [0, 1], and the sizes of the originals."""
        batch = torch.from_numpy(images).to(self._device).float().div_(255)
        return _Inputs(batch, torch.tensor([(w, h) for h, w in sizes], device=self._device))

    @torch.inference_mode()
    def engine(self, inputs: _Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Labels, boxes in pixels and scores of the best detections, on the device.

        Raises:
            MemoryError: The batch is too large.
        """
        try:
            with torch.autocast(self._device.type, self._autocast) if self._autocast else nullcontext():
                output: ModelOutput = self.network(inputs.images)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
                raise MemoryError from error
            raise
        final = output.final
        return postprocess(final, inputs.sizes_wh, top_k=final.logits.shape[1])

    def finish(self, outputs: tuple[Tensor, Tensor, Tensor]) -> list[Detections]:
        """The detections in the memory of the host."""
        labels, boxes, scores = outputs
        columns = (boxes.float().cpu().numpy(), scores.float().cpu().numpy(), labels.cpu().numpy())
        return [Detections(*image) for image in zip(*columns, strict=True)]

    def sync(self) -> None:
        """Wait for the GPU; a CPU is done when it returns."""
        wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(self._device.type)
        if wait:
            wait()

    def peak_device_mb(self) -> float | None:
        """Peak of PyTorch's tensors on a GPU of NVIDIA."""
        return torch.cuda.max_memory_allocated(self._device) / 2**20 if self._device.type == "cuda" else None


class _RunnerDetector:
    """A runner of a trained model, as a ``Detector``."""

    operating_point: dict[str, Any] | None = None

    def __init__(self, runner: TorchRunner, classes: ClassMap, exif: Literal["apply", "ignore"]) -> None:
        self._runner = runner
        self.classes = classes
        self.exif = exif
        self.name = runner.model
        self.input_size = runner.input_size

    def detect(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first; see ``Detector.detect``."""
        return self._runner.finish(self._runner.engine(self._runner.prepare(images, sizes)))


def _time_by_events(call: Callable[[], Any]) -> tuple[Any, float]:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    result = call()
    end.record()
    end.synchronize()
    return result, start.elapsed_time(end)


def _compiled(model: DFINE) -> nn.Module:
    fused = model.fused()
    fused.compile(dynamic=False)
    return fused


FORMS: dict[str, Callable[[DFINE], nn.Module]] = {
    "eager": lambda model: model.eval(),
    "fused": lambda model: model.fused(),
    "compiled": _compiled,
}
"""Name of each form and how it is made from the model as it is trained."""


def load_source(subject: Subject, input_size: Size | None, num_classes: int) -> Source:
    """The model of a checkpoint, or of a size with fresh weights, on the CPU.

    Args:
        subject: A checkpoint or a size.
        input_size: (height, width) in pixels to run at; None: that of the checkpoint, or 640 x 640.
        num_classes: C of a model with fresh weights.

    Raises:
        UsageError: The input size is not legal.
        DfineError: The checkpoint cannot be read.
    """
    if input_size is not None:
        check_input_size(input_size)
    if subject.path is None:
        assert subject.size is not None
        size = input_size or (640, 640)
        model = build_model(subject.size, num_classes, input_size=size).eval()
        return Source(model, f"dfine-{subject.size}", size, None, "apply")
    open_it = open_checkpoint if subject.kind == ".pt" else open_published
    detector = open_it(subject.path, torch.device("cpu"))
    return Source(
        detector.model,
        detector.name,
        input_size or detector.input_size,
        detector.classes,
        detector.exif,
    )


def open_torch(subject: Subject, form: str, options: RunnerOptions) -> TorchRunner:
    """A runner of one of ``FORMS``.

    Raises:
        MissingError: There is no such device, or no compiler where one is needed.
    """
    device = choose_device(options.device)
    if device.type == "cuda":  # events and waiting concern the current device
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    torch.set_num_threads(options.threads)
    source = load_source(subject, options.input_size, options.num_classes)
    network = FORMS[form](source.model).to(device)
    runner = TorchRunner(source, network, form, device, options.precision or "fp32")
    if form == "compiled":
        _compile_now(runner)
    return runner


def _compile_now(runner: TorchRunner) -> None:
    """Run once, so that what the compiler lacks is found here."""
    height, width = runner.input_size
    blank = np.zeros((1, 3, height, width), np.uint8)
    try:
        runner.engine(runner.prepare(blank, [runner.input_size]))
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise MissingError(
            f"torch.compile does not work here: {str(error.inner_exception).splitlines()[0]}",
            f"install a C++ compiler (CXX is {os.environ.get('CXX', 'not set')}), or use --backend fused",
        ) from error
