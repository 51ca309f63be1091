"""Exported files behind the ``Detector`` protocol: what is the same whichever runtime runs them. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dfine_cli.artefact import Artefact
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.preprocess import to_unit
from dfine_cli.errors import CheckError, DfineError, UsageError
from dfine_cli.types import Detections, Size

EventTimer = Callable[[Callable[[], Any]], tuple[Any, float]]
"""Gives the result of a call and its milliseconds by the clock of the device itself."""


class Found(NamedTuple):
    """What an engine gives for a batch, in the memory of the host."""

    labels: NDArray[np.int64]
    """[B, K] class index."""
    boxes: NDArray[np.float32]
    """[B, K, 4] xyxy: in pixels of the originals or of the input, as the contract says."""
    scores: NDArray[np.float32]
    """[B, K] in [0, 1]."""


class Session(Protocol):
    """An exported file, loaded into the runtime that runs it."""

    @property
    def device(self) -> str:
        """``cpu``, ``cuda:0`` and so on."""

    @property
    def precision(self) -> str:
        """What it computes in, read from what is loaded."""

    @property
    def event_timer(self) -> EventTimer | None:
        """The clock of the device for ``run``; None where the host's clock does."""

    def prepare(self, images: NDArray[np.float32], sizes_wh: NDArray[np.int64]) -> Any:
        """Inputs on the device.

        Args:
            images: [B, 3, H, W] RGB in [0, 1].
            sizes_wh: [B, 2] (width, height) of the originals in pixels; not used by the contract ``end2end``.
        """

    def run(self, inputs: Any) -> Any:
        """One pass; what it gives stays on the device.

        Raises:
            MemoryError: The batch is too large.
            DfineError: The runtime fails.
        """

    def fetch(self, outputs: Any) -> Found:
        """What a pass gave."""

    def sync(self) -> None:
        """Wait until the device has done all it was told."""

    def peak_device_mb(self) -> float | None:
        """Memory on the device since the file was opened; None where it is the host's, or nobody says."""


class ExportedDetector:
    """A session with its description, as a ``Detector``.

    Batches of any size are run in parts that the file takes: the last part is filled up with black images where
    it has to be.

    Args:
        session: What runs.
        artefact: What the file says about itself, or what is known of a file of another tool.
        file: The file.
        told_classes: Whether its classes are those that the user has given.
    """

    def __init__(
        self, session: Session, artefact: Artefact, file: Path, *, told_classes: bool = False
    ) -> None:
        self.session = session
        self.artefact = artefact
        self._file = file
        self._told_classes = told_classes
        self.name = artefact.name
        self.classes = ClassMap.from_dict(artefact.classes)
        self.input_size: Size = artefact.input_size
        self.exif: Literal["apply", "ignore"] = artefact.exif
        self.operating_point = artefact.operating_point

    def detect(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first; see ``Detector.detect``."""
        return [
            found
            for part in self._parts(len(images))
            for found in self._detect_part(images[part], sizes[part])
        ]

    def prepare(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> Any:
        """Inputs of ``session.run``; the arguments are those of ``detect``.

        Raises:
            UsageError: The file does not take so many images in one pass.
        """
        least, _, most = self.artefact.batch
        if not least <= len(images) <= most:
            takes = str(least) if least == most else f"{least} to {most}"
            raise UsageError(
                f"{self.name}: takes {takes} image{'' if takes == '1' else 's'} in one pass, not {len(images)}",
                "use such a batch, or export it again with another --batch",
            )
        sizes_wh = np.array([(width, height) for height, width in sizes], np.int64)
        return self.session.prepare(to_unit(images), sizes_wh)

    def finish(self, outputs: Any, sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, from what ``session.run`` gave.

        Raises:
            CheckError: There are classes that the description does not know.
        """
        found = self.session.fetch(outputs)
        if found.labels.size and not 0 <= found.labels.min() <= found.labels.max() < len(self.classes):
            raise CheckError(
                f"{self._file}: finds class {found.labels.max()}, and {len(self.classes)} classes are known",
                self._where_classes_are(),
            )
        boxes = found.boxes
        if self.artefact.contract == "end2end":
            height, width = self.input_size
            scales = np.array([(w / width, h / height) * 2 for h, w in sizes], np.float32)
            boxes = boxes * scales[:, None]
        order = np.argsort(-found.scores, axis=1, kind="stable")
        return [
            Detections(*(column[rows] for column in image))
            for *image, rows in zip(boxes, found.scores, found.labels, order, strict=True)
        ]

    def _where_classes_are(self) -> str:
        """What to do about classes that do not fit: it depends on who has named them."""
        if self._told_classes:
            return "--classes has too few of them: give the annotations it was trained on"
        if self.artefact.size is not None:
            return "its description is that of another file: copy both together, or export it again"
        return "give a COCO JSON file with its classes: --classes FILE"

    def _parts(self, count: int) -> Iterator[slice]:
        most = self.artefact.batch.most
        return (slice(start, min(start + most, count)) for start in range(0, count, most))

    def _detect_part(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> list[Detections]:
        lacking = max(0, self.artefact.batch.least - len(images))
        filled = [*sizes, *[self.input_size] * lacking]
        if lacking:
            images = np.concatenate((images, np.zeros((lacking, *images.shape[1:]), np.uint8)))
        try:
            outputs = self.session.run(self.prepare(images, filled))
        except MemoryError as error:
            raise DfineError(
                f"{self.name} on {self.session.device}: no memory for a batch of {len(images)}",
                "use a smaller --batch",
            ) from error
        return self.finish(outputs, filled)[: len(sizes)]
