"""Where the queries start: anchors on every cell of the encoder, and the best-scored cells among them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MARGIN = 0.01
"""An anchor is usable if all four of its numbers are inside (MARGIN, 1 - MARGIN)."""

Shapes = tuple[tuple[int, int], ...]
"""(height, width) of every level, fine to coarse."""


class Proposals(NamedTuple):
    """The cells the decoder starts from."""

    content: Tensor
    """[B, Q, d] projected features."""
    box_logits: Tensor
    """[B, Q, 4] inverse sigmoid of the anchors."""
    logits: Tensor
    """[B, Q, C] class logits."""


def inverse_sigmoid(values: Tensor, eps: float = 1e-5) -> Tensor:
    """Logits of ``values``, which are clipped to [0, 1] and kept ``eps`` away from the infinite ends."""
    values = values.clamp(0, 1)
    return torch.log(values.clamp(min=eps) / (1 - values).clamp(min=eps))


def make_anchors(shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Anchors of levels with these (height, width), one per cell, row by row, fine to coarse.

    Returns:
        Logits of the anchors, [1, A, 4] float32 cxcywh, infinite where not usable; usable, [1, A, 1] bool.
    """
    levels = []
    for level, (height, width) in enumerate(shapes):
        y, x = torch.meshgrid(
            (torch.arange(height, dtype=torch.float32) + 0.5) / height,
            (torch.arange(width, dtype=torch.float32) + 0.5) / width,
            indexing="ij",
        )
        side = torch.full_like(x, 0.05 * 2**level)
        levels.append(torch.stack((x, y, side, side), -1).flatten(0, 1))
    anchors = torch.cat(levels)[None]
    usable = ((anchors > MARGIN) & (anchors < 1 - MARGIN)).all(-1, keepdim=True)
    return torch.log(anchors / (1 - anchors)).where(usable, torch.inf), usable


def select_proposals(features: Tensor, logits: Tensor, anchors: Tensor, count: int) -> Proposals:
    """The ``count`` cells with the highest class logit, best first; all cells if there are fewer.

    Args:
        features: [B, A, d].
        logits: [B, A, C].
        anchors: [1, A, 4] logits of boxes.
        count: Q.
    """
    scores = logits.amax(-1)
    cells = scores.topk(min(count, scores.shape[1])).indices[..., None]
    return Proposals(
        content=features.gather(1, cells.expand(-1, -1, features.shape[-1])),
        box_logits=anchors.expand(cells.shape[0], -1, -1).gather(1, cells.expand(-1, -1, 4)),
        logits=logits.gather(1, cells.expand(-1, -1, logits.shape[-1])),
    )
