"""What a model finds, and what the annotations say, as labels of FiftyOne."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.error_types import KINDS, Errors, explain_errors
from dfine_cli.evaluation.label_errors import Suspect, find_label_errors
from dfine_cli.evaluation.matching import Matching
from dfine_cli.evaluation.per_image import PerImage, count_per_image
from dfine_cli.visualize.gallery import LEAST_SCORE
from dfine_cli.visualize.source import Shown

RIGHT, WRONG, MISSED, NEITHER = "tp", "fp", "fn", "crowd"
"""Outcomes of detections and objects, by the names that FiftyOne's own evaluation gives them."""
EDGES = ("left", "top", "right", "bottom")
Labels = list[Any]
"""Labels of FiftyOne, one for each image."""


class Findings:
    """Detections with all that the evaluation knows about them; its numbers are those of ``dfine eval``.

    Args:
        fiftyone: The module.
        shown: Images with detections.
        threshold: Lowest score of a detection that counts for an image, and of an object that is found.
        sizes: [I, 2] (height, width) of each image in pixels.
    """

    def __init__(
        self, fiftyone: ModuleType, shown: Shown, threshold: float, sizes: NDArray[np.int64]
    ) -> None:
        self.shown = shown
        self.threshold = threshold
        self.matching: Matching = shown.matching
        self._fiftyone = fiftyone
        self._scale = np.maximum(sizes[:, [1, 0, 1, 0]], 1).astype(np.float64)
        self._kinds = list(KINDS)

    @cached_property
    def images(self) -> PerImage:
        """Right, wrong and missed of each image at the threshold."""
        return count_per_image(self.matching, self.threshold)

    @cached_property
    def suspects(self) -> tuple[Suspect, ...]:
        """Likely label errors."""
        return find_label_errors(self.matching, self._errors, self.threshold)

    @cached_property
    def found_objects(self) -> NDArray[np.bool_]:
        """[G] objects that a detection of at least the threshold finds."""
        kept = self.matching.correct & (self.matching.detections.scores >= self.threshold)
        found = np.zeros(len(self.matching.truth.crowd), np.bool_)
        found[self.matching.found[kept]] = True
        return found

    @cached_property
    def uncertainty(self) -> NDArray[np.float64] | None:
        """[N] how open the edges of each box are: their mean deviation as a share of its width or height.

        None where the model does not tell.
        """
        if self.shown.spread is None:
            return None
        sides = np.tile(self.matching.detections.boxes_xywh[:, 2:], 2)
        return np.asarray((self.shown.spread / np.maximum(np.abs(sides), 1)).mean(1), np.float64)

    def mean_uncertainty(self) -> list[float | None]:
        """Of the detections of each image that reach the threshold; None without any."""
        assert self.uncertainty is not None
        kept = self.matching.detections.scores >= self.threshold
        images, count = self.matching.detections.images[kept], len(self.shown.names)
        sums = np.bincount(images, self.uncertainty[kept], count)
        counts = np.bincount(images, minlength=count)
        return [s / n if n else None for s, n in zip(sums.tolist(), counts.tolist(), strict=True)]

    def truth(self, images: Sequence[int]) -> Labels:
        """The annotated objects of images."""
        return [self._label(image, [self._object(g) for g in self._rows_of(image)]) for image in images]

    def outcomes(self, images: Sequence[int]) -> list[list[str]]:
        """What became of each annotated object of images, in the order of ``truth``."""
        crowd = self.matching.truth.crowd
        return [
            [
                NEITHER if crowd[g] else RIGHT if self.found_objects[g] else MISSED
                for g in self._rows_of(image)
            ]
            for image in images
        ]

    def predictions(self, images: Sequence[int]) -> Labels:
        """The detections on images, best first."""
        scores = self.matching.detections.scores
        least = min(LEAST_SCORE, self.threshold)
        rows = [self.shown.of_image(image) for image in images]
        return [
            self._label(image, [self._detection(n) for n in found[scores[found] >= least].tolist()])
            for image, found in zip(images, rows, strict=True)
        ]

    def label_errors(self, images: Sequence[int]) -> Labels:
        """The likely label errors on images, most suspicious first."""
        return [
            self._label(image, [self._suspect(s) for s in self.suspects if s.image == image])
            for image in images
        ]

    @cached_property
    def _errors(self) -> Errors:
        return explain_errors(self.matching)

    @cached_property
    def _overlaps(self) -> NDArray[np.float64]:
        """[N] IoU with the object that was found, else with the one that is nearest."""
        pairs, found = self.matching.pairs, self.matching.found
        best = np.zeros(len(found))
        np.maximum.at(best, pairs.detections, pairs.ious)
        own = pairs.where(found[pairs.detections] == pairs.objects)
        best[own.detections] = own.ious
        return best

    def _rows_of(self, image: int) -> list[int]:
        first, last = np.searchsorted(self._image_order[1], (image, image + 1))
        rows: list[int] = self._image_order[0][first:last].tolist()
        return rows

    @cached_property
    def _image_order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Objects sorted by their image, and these images."""
        order = np.argsort(self.matching.truth.images, kind="stable")
        return order, self.matching.truth.images[order]

    def _label(self, image: int, entries: list[dict[str, Any]]) -> Any:
        """Entries with boxes xywh in pixels as FiftyOne's labels, whose boxes are fractions of the image."""
        scale = self._scale[image]
        return self._fiftyone.Detections(
            detections=[
                self._fiftyone.Detection(
                    **{**e, "bounding_box": (np.asarray(e["bounding_box"]) / scale).tolist()}
                )
                for e in entries
            ]
        )

    def _object(self, g: int) -> dict[str, Any]:
        truth = self.matching.truth
        return {
            "label": truth.names[truth.classes[g]],
            "bounding_box": truth.boxes_xywh[g],
            "annotation": int(truth.ids[g]),
            "crowd": bool(truth.crowd[g]),
        }

    def _detection(self, n: int) -> dict[str, Any]:
        found, matching = self.matching.detections, self.matching
        entry = {
            "label": matching.truth.names[found.classes[n]],
            "bounding_box": found.boxes_xywh[n],
            "confidence": float(found.scores[n]),
        }
        if self.shown.judged:
            kind = self._errors.kinds[n]
            entry |= {
                "outcome": RIGHT if matching.correct[n] else WRONG if matching.counted[n] else NEITHER,
                "error": self._kinds[kind] if kind >= 0 else None,
                "iou": float(self._overlaps[n]),
                "annotation": int(matching.truth.ids[matching.found[n]]) if matching.found[n] >= 0 else None,
            }
        if self.shown.spread is not None and self.uncertainty is not None:
            entry["uncertainty"] = float(self.uncertainty[n])
            entry |= {
                f"spread_{e}": float(v) for e, v in zip(EDGES, self.shown.spread[n].tolist(), strict=True)
            }
        return entry

    def _suspect(self, suspect: Suspect) -> dict[str, Any]:
        return {
            "label": suspect.kind,
            "bounding_box": suspect.box_xywh,
            "confidence": suspect.suspicion,
            "annotated": suspect.label,
            "found": suspect.found,
        }
