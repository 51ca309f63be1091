"""Contrastive denoising (DN-DETR, arXiv 2203.01305; DINO, arXiv 2203.03605): queries made from the truth.

Every object becomes, once per group, a positive query with a slightly moved box, to be restored, and a
negative one with a box moved further, to be rejected. A group of images with at most M objects is laid
out as [M positives][M negatives]; images with fewer objects leave padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from dfine_cli.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from dfine_cli.model.query_selection import inverse_sigmoid
from dfine_cli.types import Matches, Target


class DenoisingQueries(NamedTuple):
    """D queries that go in front of the usual ones."""

    content: Tensor
    """[B, D, d] embedding of the noisy class."""
    box_logits: Tensor
    """[B, D, 4] inverse sigmoid of the noisy boxes, cxcywh."""
    positives: Matches
    """Object j of an image in group g is its query ``2 * M * g + j``."""
    groups: int


@torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
def make_denoising_queries(
    targets: Sequence[Target],
    embedding: nn.Embedding,
    num_denoising: int,
    label_noise: float,
    box_noise: float,
    dtype: torch.dtype,
) -> DenoisingQueries | None:
    """Denoising queries of a batch, or None where there is nothing to make them from.

    Args:
        targets: One per image.
        embedding: Of C classes and, last, the padding.
        num_denoising: Positive queries aimed at; there is at least one group, however many objects.
        label_noise: Half of it is the probability that a class is replaced by a random one.
        box_noise: Largest move of a positive's corner in half box sizes; a negative moves 1 to 2 times as far.
        dtype: Of the boxes.
    """
    counts = [len(target.labels) for target in targets]
    most = max(counts, default=0)
    if most == 0 or num_denoising == 0:
        return None
    groups = max(1, num_denoising // most)
    padding = embedding.num_embeddings - 1
    labels = pad_sequence([t.labels for t in targets], batch_first=True, padding_value=padding)
    boxes_cxcywh = pad_sequence([t.boxes.to(dtype) for t in targets], batch_first=True)
    labels, boxes_cxcywh = labels.tile(2 * groups), boxes_cxcywh.tile(2 * groups, 1)
    negative = torch.arange(labels.shape[1], device=labels.device) // most % 2
    # The order of the draws is fixed: labels before boxes.
    labels = add_label_noise(labels, padding, label_noise)
    boxes_cxcywh = add_box_noise(boxes_cxcywh, negative[:, None], box_noise)
    return DenoisingQueries(
        content=embedding(labels),
        box_logits=inverse_sigmoid(boxes_cxcywh),
        positives=_positives(counts, groups, labels.device),
        groups=groups,
    )


def add_label_noise(labels: Tensor, num_classes: int, ratio: float) -> Tensor:
    """``labels`` with a share of ``ratio / 2`` redrawn from all classes; padding (``num_classes``) stays."""
    if ratio == 0:
        return labels
    redrawn = torch.rand(labels.shape, device=labels.device) < ratio * 0.5
    random_labels = torch.randint(0, num_classes, labels.shape, device=labels.device)
    return torch.where(redrawn & (labels != num_classes), random_labels, labels)


def add_box_noise(boxes_cxcywh: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Boxes [..., 4] whose corners moved either way by up to ``scale`` half sizes, inside the image.

    Args:
        boxes_cxcywh: Fractions of the image.
        negative: 1 for boxes that move one ``scale`` further, 0 for the others; broadcasts.
        scale: 0 leaves the boxes as they are.
    """
    if scale == 0:
        return boxes_cxcywh
    sign = torch.randint(0, 2, boxes_cxcywh.shape, device=boxes_cxcywh.device) * 2 - 1
    magnitude = torch.rand_like(boxes_cxcywh) + negative
    half_size = boxes_cxcywh[..., 2:].tile(2) * 0.5
    boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh) + sign * magnitude * half_size * scale
    return xyxy_to_cxcywh(boxes_xyxy.clamp(0, 1)).abs()


def _positives(counts: Sequence[int], groups: int, device: torch.device) -> Matches:
    """Positive queries and their objects, from sizes alone, so that no device has to be waited for."""
    sizes = torch.tensor(counts)
    most = max(counts)
    present = (torch.arange(most) < sizes[:, None])[:, None].expand(-1, groups, -1)
    images, group, slot = present.nonzero(as_tuple=True)
    first = sizes.cumsum(0) - sizes
    pairs = torch.stack((images, 2 * most * group + slot, first[images] + slot))
    return Matches(*pairs.to(device, non_blocking=True))


def attention_mask(denoising: int, groups: int, queries: int, device: torch.device) -> Tensor:
    """Who may not look at whom, [D + Q, D + Q] bool, True = forbidden.

    Nobody outside a group sees its denoising queries; everybody sees the usual queries, which come last.

    Args:
        denoising: D, a multiple of ``groups``.
        groups: Number of denoising groups.
        queries: Q.
        device: Where to make it.
    """
    position = torch.arange(denoising + queries, device=device)
    group = (position // (denoising // groups)).clamp(max=groups)
    return (group[:, None] != group) & (position < denoising)
