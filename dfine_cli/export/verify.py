"""The proof of an export: the same images through the checkpoint and through the file, compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.artefact import BatchRange
from dfine_cli.backends.detector import Detector
from dfine_cli.data.preprocess import resize
from dfine_cli.errors import CheckError
from dfine_cli.evaluation.predict import Progress
from dfine_cli.evaluation.score import score_detector
from dfine_cli.export.agreement import Agreement, Limits, compare
from dfine_cli.export.proof_images import ProofImages, drawn_pictures, some_pictures
from dfine_cli.export.spec import ONE_IMAGE
from dfine_cli.types import Detections

LEAST_AP = 0.01
"""AP (0 to 1) below which a difference of AP says little."""
MOST_AT_ONCE = 32
"""Images in one pass that are tried at most: a file for more is for a larger machine."""
IN_BATCHES = 4
"""Different pictures in such a pass, which are repeated to fill it."""
OnImages = Callable[[str, int, int], None]
"""Told who looks at the images, how many it has seen, and how many there are."""


class Proof(NamedTuple):
    """What a proof found."""

    told: str
    """What the pictures are, in words."""
    images: int
    """How many there are."""
    agreement: Agreement
    ap: float | None
    """AP of the checkpoint, 0 to 1; None without annotations."""
    ap_artefact: float | None
    """AP of the file."""
    max_drop: float
    """How much less AP is accepted, 0 to 1."""
    batches: Mapping[int, Agreement] = MappingProxyType({})
    """By number of images in one pass: what the file says of them, against what it says of one after the other."""

    @property
    def drop(self) -> float | None:
        """AP that is lost; below 0 if some is won."""
        return None if self.ap is None or self.ap_artefact is None else self.ap - self.ap_artefact

    @property
    def says_little(self) -> bool:
        """Whether the checkpoint finds next to nothing on these images, so that there is no AP to lose."""
        return self.ap is not None and self.ap < LEAST_AP

    @property
    def holds(self) -> bool:
        """Whether the file says what the checkpoint says."""
        return self._complaint() is None

    def _complaint(self) -> tuple[str, str] | None:
        """What the file says that it should not, and what to try; AP decides where there is some to lose."""
        if self.agreement.not_numbers:
            return self.agreement.told(), "try --precision fp32"
        if self.drop is not None and self.drop > self.max_drop + 1e-12:
            lost = f"{100 * self.drop:.2f} AP less than the checkpoint, allowed are {100 * self.max_drop:g}"
            return lost, "try --precision fp32, or allow more with --max-ap-drop"
        if (self.drop is None or self.says_little) and not self.agreement.holds:
            hint = "try --precision fp32, or let AP decide: --data with annotated images that the checkpoint knows"
            return self.agreement.told(), hint
        for count, found in self.batches.items():
            if not found.holds:
                said = (
                    f"in a pass of {count} images it says something else than of each alone: {found.told()}"
                )
                return said, "export it with another --batch, such as 1"
        return None

    def require(self, kept: object) -> None:
        """Fail unless the proof holds.

        Args:
            kept: Where the file is kept that failed.

        Raises:
            CheckError: It does not hold.
        """
        if complaint := self._complaint():
            found, hint = complaint
            raise CheckError(
                f"the exported file does not say what the checkpoint says: {found}",
                f"it is kept as {kept}; {hint}",
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a description or ``--json``."""
        return {
            "images": self.images,
            "data": self.told,
            **self.agreement._asdict(),
            "batches": {str(count): found._asdict() for count, found in self.batches.items()},
            "ap": self.ap,
            "ap_artefact": self.ap_artefact,
            "ap_drop": self.drop,
            "max_ap_drop": self.max_drop,
            "holds": self.holds,
        }


def prove(
    checkpoint: Detector,
    artefact: Detector,
    images: ProofImages,
    *,
    limits: Limits,
    max_drop: float,
    batch: BatchRange = ONE_IMAGE,
    on_images: OnImages | None = None,
) -> Proof:
    """Compare two detectors of the same classes and input size.

    Args:
        checkpoint: What is right.
        artefact: What is to be proven.
        images: The pictures.
        limits: How near the second must be to the first.
        max_drop: How much less AP is accepted, 0 to 1.
        batch: Images that the artefact takes in one pass.
        on_images: Told of the images that are done.

    Raises:
        CheckError: The data has errors.
        DfineError: The data cannot be read.
    """
    with images.taken() as files:
        if files is None:
            pictures = drawn_pictures()
            first, second = (_one_by_one(detector, pictures) for detector in (checkpoint, artefact))
            pairs, ap, ap_artefact = list(zip(first, second, strict=True)), None, None
        else:

            def progress(who: str) -> Progress:
                def tell(done: int, total: int) -> None:
                    if on_images:
                        on_images(who, done, total)

                return tell

            scored = [
                score_detector(detector, files, batch=1, workers=0, on_progress=progress(who))
                for who, detector in (("checkpoint", checkpoint), ("file", artefact))
            ]
            found = [entry.detections for entry in scored]
            pairs = [(found[0][key], found[1][key]) for key in found[0]]
            ap, ap_artefact = (_known(entry.result.ap) for entry in scored)
    batches = _try_batches(artefact, images, batch, limits)
    return Proof(images.told, len(pairs), compare(pairs, limits), ap, ap_artefact, max_drop, batches)


def _try_batches(
    artefact: Detector, images: ProofImages, batch: BatchRange, limits: Limits
) -> Mapping[int, Agreement]:
    """Full passes of the usual and the largest number of images, as neither AP nor the comparison has them."""
    counts = {max(batch.least, min(count, MOST_AT_ONCE)) for count in (batch.usual, batch.most)} - {1}
    if not counts:
        return {}
    pictures = some_pictures(images, IN_BATCHES, artefact.exif)
    alone = _one_by_one(artefact, pictures)
    found = {}
    for count in sorted(counts):
        rows = [row % len(pictures) for row in range(count)]
        together = artefact.detect(*_ready([pictures[row] for row in rows], artefact))
        found[count] = compare(zip((alone[row] for row in rows), together, strict=True), limits)
    return found


def _one_by_one(detector: Detector, pictures: list[NDArray[np.uint8]]) -> list[Detections]:
    return [detector.detect(*_ready([picture], detector))[0] for picture in pictures]


def _ready(
    pictures: list[NDArray[np.uint8]], detector: Detector
) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """What ``detect`` takes."""
    resized = np.stack([resize(picture, detector.input_size) for picture in pictures])
    return resized, [(picture.shape[0], picture.shape[1]) for picture in pictures]


def _known(ap: float) -> float | None:
    """An AP; None where there is no object, for which COCO has -1."""
    return None if math.isnan(ap) or ap < 0 else ap
