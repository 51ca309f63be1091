"""Losses of the edge-offset distributions: FGL and DDF (D-FINE, arXiv 2410.13842, sections 4.1 and 4.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dfine_cli.boxes import cxcywh_to_xyxy
from dfine_cli.losses.heads import BoxPairs
from dfine_cli.model.fdr import boxes_to_distances, project_to_bins


class BinTargets(NamedTuple):
    """The two bins around the true offset of each edge of a matched box, and their shares."""

    bins: Tensor
    """[K, 4, 2] int64, left and right bin."""
    shares: Tensor
    """[K, 4, 2], sum 1."""


@torch.no_grad()
def target_bins(references: Tensor, pairs: BoxPairs, bin_values: Tensor, reg_scale: float) -> BinTargets:
    """Where the offsets from the reference boxes to the objects fall among the bins.

    References and pairs are the same for all decoder layers of a group, and so are the targets.

    Args:
        references: [B * Q, 4] cxcywh.
        pairs: Matched queries.
        bin_values: [R + 1] W(n), ascending.
        reg_scale: 1 / c of the paper's W(n).
    """
    targets_xyxy = cxcywh_to_xyxy(pairs.targets_cxcywh)
    distances = boxes_to_distances(references.index_select(0, pairs.rows), targets_xyxy, reg_scale)
    left, left_share, right_share = project_to_bins(distances, bin_values)
    return BinTargets(torch.stack((left, left + 1), -1), torch.stack((left_share, right_share), -1))


def fine_grained_localization(corners: Sequence[Tensor], targets: BinTargets, pairs: BoxPairs) -> Tensor:
    """FGL [L]: IoU-weighted cross-entropy against the two bins around each true offset.

    Divided by the number of pairs, where the paper sums.

    Args:
        corners: L logits [B * Q, 4, R + 1].
        targets: Bins of the pairs.
        pairs: Matched queries; heads after the first L are not looked at.
    """
    matched = torch.stack([layer.index_select(0, pairs.rows) for layer in corners])
    log_p = matched.log_softmax(-1).gather(-1, targets.bins.expand(len(corners), -1, -1, -1))
    weights = pairs.ious[: len(corners), :, None, None] * targets.shares
    return -(weights * log_p).sum((1, 2, 3)) / pairs.norm


def distillation_shares(matched: int, queries: int) -> tuple[float, float]:
    """Weights of the mean over matched and over the other queries in DDF; they sum to 1.

    Proportional to the square roots of the two counts.
    """
    roots = matched**0.5, (queries - matched) ** 0.5
    total = max(sum(roots), 1.0)
    return roots[0] / total, roots[1] / total


def decoupled_distillation(
    corners: Sequence[Tensor],
    logits: Tensor,
    pairs: BoxPairs,
    shares: tuple[float, float],
    temperature: float,
) -> Tensor:
    """DDF [L - 1]: every layer's distributions against those of the last layer, KL(teacher || student).

    A matched query is weighted with its own IoU, any other with the confidence of the teacher; the means
    over both sorts are mixed by ``shares``.

    Args:
        corners: L logits [B * Q, 4, R + 1]; the last is the teacher.
        logits: [B, Q, C] class logits of the teacher.
        pairs: Matched queries.
        shares: Weights of the matched and of the other queries.
        temperature: T of the softmax.
    """
    *students, teacher = corners
    if not students:
        return teacher.new_zeros(0)
    with torch.no_grad():
        weights = _distillation_weights(logits, pairs, len(students), shares) * temperature**2
        target_log_p = (teacher / temperature).log_softmax(-1)
        target_p = target_log_p.exp()
    divergences = [
        (target_p * (target_log_p - (student / temperature).log_softmax(-1))).sum((1, 2))
        for student in students
    ]
    return (weights * torch.stack(divergences)).sum(1)


def _distillation_weights(
    logits: Tensor, pairs: BoxPairs, layers: int, shares: tuple[float, float]
) -> Tensor:
    """What the divergences [layers, B * Q], summed over the four edges, count in DDF."""
    confidence = logits.amax(-1).sigmoid().flatten()
    matched = len(pairs.rows)
    others = len(confidence) - matched
    weights = (confidence * (shares[1] / max(4 * others, 1))).repeat(layers, 1)
    return weights.index_copy_(1, pairs.rows, pairs.ious[:layers] * (shares[0] / max(4 * matched, 1)))
