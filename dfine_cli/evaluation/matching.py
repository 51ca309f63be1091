"""Which detection found which object: COCO's greedy assignment, for all images, classes and IoUs at once.

Symbols: N detections that count, G objects, P overlapping pairs of the two, A area ranges, T IoU thresholds,
K classes, I images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.results import Results
from dfine_cli.evaluation.truth import Truth

IOUS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""IoU thresholds of COCO's AP."""
AREAS = ("all", "small", "medium", "large")
"""Ranges of object area in the order of pycocotools: up to 32², 32² to 96², above, in pixels of the original."""
AREA_LIMITS: NDArray[np.float64] = np.array([(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)])
"""[A, 2] smallest and largest area of each range, both inside."""
MIN_IOU = 0.1
"""Pairs that overlap less are not looked at; below it TIDE takes a detection for background."""
NOTHING = -1
"""In place of the position of an object: none."""
_CHUNK = 1_000_000
"""Pairs whose overlap is computed at a time, which bounds the memory."""


class Ranked(NamedTuple):
    """The N detections that count, sorted by class, then best first."""

    rows: NDArray[np.int64]
    """[N] position in the results."""
    images: NDArray[np.int64]
    """[N] position in ``Truth.image_ids``."""
    classes: NDArray[np.int64]
    """[N] position in ``Truth.category_ids``, ascending."""
    boxes_xywh: NDArray[np.float64]
    """[N, 4]"""
    scores: NDArray[np.float64]
    """[N] descending inside a class; ties in the order of images, then of the results."""
    ranks: NDArray[np.int64]
    """[N] 0 for the best of its image and class."""


class Pairs(NamedTuple):
    """Detections and objects of the same image that overlap, sorted by detection, then object."""

    detections: NDArray[np.int64]
    """[P] position among the N."""
    objects: NDArray[np.int64]
    """[P] position among the G."""
    ious: NDArray[np.float64]
    """[P] at least ``MIN_IOU``; with a crowd region the share of the detection that is inside."""

    def where(self, mask: NDArray[np.bool_]) -> Pairs:
        """The pairs that ``mask`` [P] selects."""
        return Pairs(self.detections[mask], self.objects[mask], self.ious[mask])


class Matches(NamedTuple):
    """The object that each detection found; detections without any candidate are left out."""

    detections: NDArray[np.int64]
    """[M] position among the N, ascending."""
    objects: NDArray[np.int64]
    """[M, A, T] position among the G, or ``NOTHING``."""


@dataclass(frozen=True, eq=False)
class Matching:
    """Ground truth and detections with everything that connects them.

    Attributes:
        truth: The ground truth.
        detections: What was found, best ``max_dets`` of each image and class.
        pairs: Overlapping detections and objects of any class.
        ignored: [G, A] objects that do not count: crowds, or of another size.
        matches: COCO's assignment at ``AREAS`` and ``IOUS``.
        given_per_class: [K] results in all.
    """

    truth: Truth
    detections: Ranked
    pairs: Pairs
    ignored: NDArray[np.bool_]
    matches: Matches
    given_per_class: NDArray[np.int64]

    @cached_property
    def found(self) -> NDArray[np.int64]:
        """[N] object that each detection found at IoU 0.50 whatever its size, or ``NOTHING``."""
        found = np.full(len(self.detections.scores), NOTHING)
        found[self.matches.detections] = self.matches.objects[:, 0, 0]
        return found

    @cached_property
    def by_image(self) -> list[NDArray[np.int64]]:
        """I: the detections of each image, best first."""
        images = self.detections.images
        order = np.lexsort((-self.detections.scores, images))
        return np.split(order, np.searchsorted(images[order], np.arange(1, len(self.truth.image_ids))))

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """[N] detections that found an object that counts, at IoU 0.50."""
        correct = self.found >= 0
        correct[correct] = ~self.ignored[self.found[correct], 0]
        return correct

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """[N] detections that are right or wrong at IoU 0.50: all but those on crowds."""
        return (self.found < 0) | self.correct

    @cached_property
    def positives(self) -> NDArray[np.int64]:
        """[K, A] objects that count."""
        shape = (len(self.truth.category_ids), len(AREAS))
        counts = np.zeros(shape, np.int64)
        np.add.at(counts, self.truth.classes, ~self.ignored)
        return counts


def match_results(truth: Truth, results: Results, max_dets: int) -> Matching:
    """Rank detections and assign them to objects as pycocotools does.

    Args:
        truth: The ground truth.
        results: Whose ids are all in ``truth``.
        max_dets: Detections of an image and class that count, best first.
    """
    ranked = _rank(truth, results, max_dets)
    pairs = find_pairs(ranked.boxes_xywh, ranked.images, truth)
    ignored = truth.crowd[:, None] | ~in_range(truth.areas)
    same_class = ranked.classes[pairs.detections] == truth.classes[pairs.objects]
    matches = match_greedily(
        pairs.where(same_class & (pairs.ious >= IOUS[0])),
        groups=ranked.images * max(1, len(truth.category_ids)) + ranked.classes,
        ignored=ignored,
        crowd=truth.crowd,
        ious=IOUS,
    )
    classes = np.searchsorted(truth.category_ids, results.category_ids)
    given = np.bincount(classes, minlength=len(truth.category_ids))
    return Matching(truth, ranked, pairs, ignored, matches, given)


def in_range(areas: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[N, A] whether each area is inside each of ``AREAS``."""
    return (areas[:, None] >= AREA_LIMITS[:, 0]) & (areas[:, None] <= AREA_LIMITS[:, 1])


def find_pairs(boxes_xywh: NDArray[np.float64], images: NDArray[np.int64], truth: Truth) -> Pairs:
    """Detections and objects of the same image with at least ``MIN_IOU``, whatever their class.

    Args:
        boxes_xywh: [N, 4] boxes of detections.
        images: [N] their images, as positions in ``truth.image_ids``.
        truth: The objects.
    """
    by_image = np.argsort(truth.images, kind="stable")
    starts = np.searchsorted(truth.images[by_image], np.arange(len(truth.image_ids) + 1))
    counts = np.diff(starts)[images]
    ends = np.cumsum(counts)
    cuts = np.searchsorted(ends, np.arange(_CHUNK, ends[-1] if len(ends) else 0, _CHUNK))
    parts = []
    for rows in np.split(np.arange(len(images)), cuts):
        here = counts[rows]
        detections = np.repeat(rows, here)
        offsets = np.arange(here.sum()) - np.repeat(np.cumsum(here) - here, here)
        objects = by_image[np.repeat(starts[images[rows]], here) + offsets]
        ious = _overlaps(boxes_xywh[detections], truth.boxes_xywh[objects], truth.crowd[objects])
        near = ious >= MIN_IOU
        parts.append((detections[near], objects[near], ious[near]))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def match_greedily(
    pairs: Pairs,
    *,
    groups: NDArray[np.int64],
    ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    ious: NDArray[np.float64],
    scores: NDArray[np.float64] | None = None,
) -> Matches:
    """Give each detection, best first, the object that it overlaps most among those still free.

    The rules are pycocotools': objects that count go before ignored ones, whatever the overlap; of equal
    overlaps the later object wins; crowd regions are never used up. Detections of different groups do not
    compete, so the n-th ones of all groups are assigned at the same time.

    Args:
        pairs: Candidates, in any order.
        groups: [N] number of the group of each detection; objects belong to one group too.
        ignored: [G, A] objects that do not count.
        crowd: [G]
        ious: [T] lowest IoU of a match.
        scores: [N] by which detections of a group go first; by default they come in that order.
    """
    detections, owner = np.unique(pairs.detections, return_inverse=True)
    turns = _turns(groups[detections], None if scores is None else scores[detections])
    # The later of two pairs of a detection is the better one.
    order = np.lexsort((pairs.objects, pairs.ious, owner, turns[owner]))
    owner, objects, overlaps = owner[order], pairs.objects[order], pairs.ious[order]
    enough = overlaps[:, None] >= np.minimum(ious, 1 - 1e-10)
    shape = (ignored.shape[1], len(ious))
    taken = np.zeros((len(ignored), *shape), np.bool_)
    found = np.full((len(detections), *shape), NOTHING)
    area, level = np.indices(shape)
    rounds = np.searchsorted(turns[owner], np.arange(turns.max(initial=-1) + 2))
    for first, last in pairwise(rounds.tolist()):
        here = objects[first:last]
        free = enough[first:last, None, :] & (~taken[here] | crowd[here, None, None])
        value = np.arange(1, last - first + 1)[:, None] + np.where(ignored[here], 0, last - first)
        starts = np.flatnonzero(np.diff(owner[first:last], prepend=-1))
        best = np.maximum.reduceat(np.where(free, value[..., None], 0), starts, axis=0)
        chosen = np.where(best > 0, here[(best - 1) % (last - first)], NOTHING)
        found[owner[first:last][starts]] = chosen
        hit = chosen >= 0
        taken[chosen[hit], np.broadcast_to(area, hit.shape)[hit], np.broadcast_to(level, hit.shape)[hit]] = (
            True
        )
    return Matches(detections, found)


def _rank(truth: Truth, results: Results, max_dets: int) -> Ranked:
    images = np.searchsorted(truth.image_ids, results.image_ids)
    classes = np.searchsorted(truth.category_ids, results.category_ids)
    by_group = np.lexsort((-results.scores, images, classes))
    ranks = np.empty(len(by_group), np.int64)
    ranks[by_group] = _places(images[by_group], classes[by_group])
    order = np.lexsort((images, -results.scores, classes))
    order = order[ranks[order] < max_dets]
    return Ranked(
        order, images[order], classes[order], results.boxes_xywh[order], results.scores[order], ranks[order]
    )


def _turns(groups: NDArray[np.int64], scores: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """[M] how many of the same group go before each detection."""
    order = np.argsort(groups, kind="stable") if scores is None else np.lexsort((-scores, groups))
    turns = np.empty(len(order), np.int64)
    turns[order] = _places(groups[order])
    return turns


def _places(*keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """[M] place of each entry in its run of equal keys."""
    count = len(keys[0])
    new = np.ones(count, np.bool_)
    if count:
        new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    starts = np.flatnonzero(new)
    return np.arange(count) - np.repeat(starts, np.diff(starts, append=count))


def _overlaps(
    found_xywh: NDArray[np.float64], truth_xywh: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """[P] IoU of corresponding boxes in pycocotools' order of operations; in a crowd, the share that is inside."""
    found, truth = found_xywh.T, truth_xywh.T
    width = np.minimum(found[0] + found[2], truth[0] + truth[2]) - np.maximum(found[0], truth[0])
    height = np.minimum(found[1] + found[3], truth[1] + truth[3]) - np.maximum(found[1], truth[1])
    area = found[2] * found[3]
    common = np.where((width > 0) & (height > 0), width * height, 0.0)
    union = np.where(crowd, area, area + truth[2] * truth[3] - common)
    ious: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=common > 0)
    return ious
