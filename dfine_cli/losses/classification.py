"""Classification losses of stacked heads, and the table of them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dfine_cli.losses.heads import ClassPairs

ClassificationLoss = Callable[[Tensor, ClassPairs, float, float], Tensor]


def varifocal(logits: Tensor, pairs: ClassPairs, alpha: float, gamma: float) -> Tensor:
    """Varifocal loss [H] (Zhang et al., 2021), summed over queries and classes and divided by the objects.

    A matched class is trained towards the IoU of its box and weighted with it; all others are trained
    towards 0 with weight ``alpha * p ** gamma``.

    Args:
        logits: [H, B, Q, C].
        pairs: Matched queries and their classes.
        alpha: Weight of negatives.
        gamma: Focusing exponent of negatives.
    """
    logits = logits.flatten(1)
    with torch.no_grad():
        positions = pairs.positions
        weights = (logits.sigmoid() ** gamma).mul_(alpha).scatter_(1, positions, pairs.ious)
    # Cross-entropy against a soft target t is softplus(x) - t * x, and t is 0 but for the matched.
    loss = (weights * F.softplus(logits)).sum(1)
    matched = pairs.ious**2 * logits.gather(1, positions)
    return (loss - matched.sum(1)) / pairs.norm


def matchability_aware(logits: Tensor, pairs: ClassPairs, alpha: float, gamma: float) -> Tensor:
    """Matchability-aware loss [H] (DEIM, arXiv 2412.04234), summed over queries and classes, divided by the objects.

    A matched class is trained towards ``IoU ** gamma`` with weight 1 however small the IoU is, where the
    varifocal loss lets a badly placed match go almost unpunished; all others as in the varifocal loss.

    Args:
        logits: [H, B, Q, C].
        pairs: Matched queries and their classes.
        alpha: Weight of negatives.
        gamma: Focusing exponent of negatives, and exponent of the target.
    """
    logits = logits.flatten(1)
    with torch.no_grad():
        positions = pairs.positions
        weights = (logits.sigmoid() ** gamma).mul_(alpha).scatter_(1, positions, 1.0)
    loss = (weights * F.softplus(logits)).sum(1)
    matched = pairs.ious**gamma * logits.gather(1, positions)
    return (loss - matched.sum(1)) / pairs.norm


def focal(logits: Tensor, pairs: ClassPairs, alpha: float, gamma: float) -> Tensor:
    """Sigmoid focal loss [H] (Lin et al., 2017), summed over queries and classes, divided by the objects.

    Args:
        logits: [H, B, Q, C].
        pairs: Matched queries and their classes.
        alpha: Weight of negatives; positives have ``1 - alpha``.
        gamma: Focusing exponent.
    """
    logits = logits.flatten(1)
    positions = pairs.positions
    # published: alpha is the weight of positives; here it means the same for every loss
    loss = (alpha * logits.sigmoid() ** gamma * F.softplus(logits)).sum(1)
    matched = logits.gather(1, positions)
    positive = (1 - alpha) * (-matched).sigmoid() ** gamma * F.softplus(-matched)
    negative = alpha * matched.sigmoid() ** gamma * F.softplus(matched)
    return (loss + (positive - negative).sum(1)) / pairs.norm


CLASSIFICATION: dict[str, ClassificationLoss] = {
    "vfl": varifocal,
    "mal": matchability_aware,
    "focal": focal,
}
"""Classification losses by their name in a recipe."""
