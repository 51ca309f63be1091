"""One model on one backend, cut into stages where a clock can be read, and the table of backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from dfine_cli.data.classes import ClassMap
from dfine_cli.errors import UsageError
from dfine_cli.types import Detections, Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "bf16"]

EventTimer = Callable[[Callable[[], Any]], tuple[Any, float]]
"""Gives the result of a call and its milliseconds by the clock of the device itself."""


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
    def classes(self) -> ClassMap | None:
        """The classes its labels index; None for an untrained model, whose answers mean nothing."""

    @property
    def num_classes(self) -> int | None:
        """C; None if a file does not say."""

    @property
    def exif(self) -> Literal["apply", "ignore"]:
        """Whether images are turned as their EXIF tag says before it sees them."""

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


class RunnerDetector:
    """A runner as a ``Detector``, so that what was timed is what is scored.

    Args:
        runner: A runner of a trained model.
        classes: Its classes.
    """

    def __init__(self, runner: Runner, classes: ClassMap) -> None:
        self.runner = runner
        self.classes = classes
        self.name = runner.model
        self.input_size = runner.input_size
        self.exif = runner.exif
        self.operating_point: dict[str, Any] | None = None

    def detect(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first; see ``Detector.detect``."""
        return self.runner.finish(self.runner.engine(self.runner.prepare(images, sizes)))


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
    """

    device: str
    threads: int
    precision: Precision | None
    input_size: Size | None
    num_classes: int


class Backend(NamedTuple):
    """A row of ``BACKENDS``."""

    kinds: frozenset[str]
    """Kinds of subjects it runs."""
    open: Callable[[Subject, str, RunnerOptions], Runner]
    """Given the name of the row."""
    meaning: str


SIZE = "size"
"""The kind of a subject that is a size and not a file."""
TORCH_KINDS = frozenset({SIZE, ".pt", ".pth"})
"""What PyTorch runs."""


def _torch(subject: Subject, backend: str, options: RunnerOptions) -> Runner:
    from dfine_cli.bench.torch_runner import open_torch

    return open_torch(subject, backend, options)


BACKENDS: dict[str, Backend] = {
    "fused": Backend(TORCH_KINDS, _torch, "PyTorch, norms and branches folded into convolutions"),
    "eager": Backend(TORCH_KINDS, _torch, "PyTorch, the model as it is trained"),
    "compiled": Backend(TORCH_KINDS, _torch, "PyTorch, fused and then torch.compile"),
}
"""All backends by name; each imports its runtime only when it is opened. The first that runs a kind is its default."""


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
