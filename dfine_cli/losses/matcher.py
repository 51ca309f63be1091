"""Which query answers for which object: the Hungarian assignment of every head, and their union (GO).

All heads of a step are matched together. Costs exist only between the queries and the objects of the
same image; they go to the host in one transfer, the indices come back in one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dfine_cli.boxes import cxcywh_to_xyxy, giou
from dfine_cli.types import Target

# published: the cost weighs positives with 0.25 whatever the alpha of the loss (0.75 for negatives) is
POSITIVE_SHARE = 0.25
FOCUS = 2.0
LOG_EPSILON = 1e-8
NAN_COST = 1.0
LARGEST_COST = float(np.finfo(np.float32).max)

Indices = NDArray[np.int64]


class Costs(NamedTuple):
    """Weights of the three costs of a pair."""

    classification: float = 2.0
    bbox: float = 5.0
    giou: float = 2.0


class Objects(NamedTuple):
    """All objects of a batch, concatenated in order of the images."""

    labels: Tensor
    """[N] int64 class index."""
    boxes: Tensor
    """[N, 4] cxcywh, fractions of the network input."""
    images: Tensor
    """[N] int64, image of the object."""
    counts: tuple[int, ...]
    """Objects of each image; they sum to N."""


class Pairs(NamedTuple):
    """Matched queries and objects."""

    rows: Tensor
    """int64, place of the query in [B * Q]; ascending."""
    objects: Tensor
    """int64, place of the object in [N]."""


class Matching(NamedTuple):
    """The assignments of H heads over the same B x Q queries."""

    own: Pairs
    """Of each head, [H, K]: every head has the same number of pairs."""
    union: Pairs
    """Over all heads, [U]: each query at most once, an object maybe several times."""


def gather_objects(targets: Sequence[Target], like: Tensor) -> Objects:
    """The objects of a batch with boxes of the dtype and on the device of ``like``."""
    counts = tuple(len(t.labels) for t in targets)
    images = torch.repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    return Objects(
        labels=torch.cat([t.labels for t in targets]).to(like.device),
        boxes=torch.cat([t.boxes for t in targets]).to(like),
        images=images.to(like.device, non_blocking=True),
        counts=counts,
    )


@torch.no_grad()
def pair_costs(logits: Tensor, boxes_cxcywh: Tensor, objects: Objects, costs: Costs) -> Tensor:
    """Matching costs [N, H, Q] of every object against the queries of its own image.

    Focal classification cost, L1 over cxcywh and negative GIoU (D-FINE follows DETR and Deformable DETR).

    Args:
        logits: [H, B, Q, C].
        boxes_cxcywh: [H, B, Q, 4].
        objects: Objects of the B images.
        costs: Weights of the parts.
    """
    p = logits[:, objects.images, :, objects.labels].sigmoid()
    negative = (1 - POSITIVE_SHARE) * p**FOCUS * -(1 - p + LOG_EPSILON).log()
    positive = POSITIVE_SHARE * (1 - p) ** FOCUS * -(p + LOG_EPSILON).log()
    # Coordinates lead in memory, so that elementwise work runs along the queries.
    planes = boxes_cxcywh.permute(3, 1, 0, 2).contiguous().index_select(1, objects.images)
    l1 = (planes - objects.boxes.T[:, :, None, None]).abs().sum(0)
    corners_xyxy = _planes_to_xyxy(planes).movedim(0, -1)
    overlap = giou(corners_xyxy, cxcywh_to_xyxy(objects.boxes)[:, None, None])
    return costs.classification * (positive - negative) + costs.bbox * l1 - costs.giou * overlap


def _planes_to_xyxy(planes_cxcywh: Tensor) -> Tensor:
    """``cxcywh_to_xyxy`` for boxes [4, ...]."""
    centre, half = planes_cxcywh[:2], planes_cxcywh[2:].clamp(min=0) * 0.5
    return torch.cat((centre - half, centre + half))


def assign(costs: NDArray[np.floating], counts: Sequence[int]) -> tuple[Indices, Indices]:
    """Least-cost assignment of every head and image.

    Args:
        costs: [N, H, Q]; NaN counts as 1 and infinities as the largest finite number.
        counts: Objects of each image.

    Returns:
        Rows of the queries in [B * Q], ascending, and objects, both [H, K]. K is the sum over images of
        min(objects, Q): objects in excess of the queries stay unmatched.
    """
    finite = np.nan_to_num(costs, nan=NAN_COST, posinf=LARGEST_COST, neginf=-LARGEST_COST)
    _, heads, queries = costs.shape
    ends = np.cumsum(counts)
    parts = [
        # Fewer rows than columns is the orientation that the solver does not have to transpose.
        [linear_sum_assignment(finite[end - count : end, head]) for head in range(heads)]
        for end, count in zip(ends, counts, strict=True)
    ]
    sizes = np.minimum(counts, queries)
    objects = _join(parts, 0, heads) + np.repeat(ends - counts, sizes)
    rows = _join(parts, 1, heads) + np.repeat(np.arange(len(counts)) * queries, sizes)
    order = np.argsort(rows, axis=1)
    return np.take_along_axis(rows, order, 1), np.take_along_axis(objects, order, 1)


def _join(parts: list[list[tuple[Indices, Indices]]], side: int, heads: int) -> Indices:
    """One side of the solutions by image and head, as [H, K]."""
    return np.stack([np.concatenate([image[head][side] for image in parts]) for head in range(heads)])


def unite(rows: Indices, objects: Indices) -> tuple[Indices, Indices]:
    """Union of the assignments of all heads: the global optimal (GO) set of D-FINE, section 4.2.

    A query goes to the object that most heads gave it; in a tie to the first of these objects.

    Args:
        rows: [H, K] queries, counted over the batch.
        objects: [H, K], not negative.

    Returns:
        Rows [U], ascending, each at most once, and their objects [U].
    """
    stride = objects.max(initial=0) + 1
    pairs, votes = np.unique(rows * stride + objects, return_counts=True)
    pairs = pairs[np.lexsort((-votes, pairs // stride))]
    _, first = np.unique(pairs // stride, return_index=True)
    return pairs[first] // stride, pairs[first] % stride


@torch.no_grad()
def match(logits: Tensor, boxes_cxcywh: Tensor, objects: Objects, costs: Costs) -> Matching:
    """The assignments of all heads and their union, on the device of ``logits``.

    Args:
        logits: [H, B, Q, C].
        boxes_cxcywh: [H, B, Q, 4].
        objects: Objects of the B images.
        costs: Weights of the costs.
    """
    own = assign(pair_costs(logits, boxes_cxcywh, objects, costs).cpu().numpy(), objects.counts)
    fields = (*own, *unite(*own))
    packed = torch.from_numpy(np.concatenate([field.ravel() for field in fields])).to(logits.device)
    parts = torch.split(packed, [field.size for field in fields])
    own_rows, own_objects = (part.view(len(logits), -1) for part in parts[:2])
    return Matching(Pairs(own_rows, own_objects), Pairs(parts[2], parts[3]))
