"""From predictions to detections: scores, the best of them, boxes in pixels."""

import torch
from torch import Tensor

from dfine_cli.boxes import cxcywh_to_xyxy
from dfine_cli.types import LayerOutput


def postprocess(output: LayerOutput, sizes: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``top_k`` best pairs of a query and a class of every image, best first.

    A query can appear with several classes. No threshold, no suppression of overlaps, no clipping.

    Args:
        output: Logits [B, Q, C] and boxes [B, Q, 4].
        sizes: [B, 2] (width, height) of the original images in pixels.
        top_k: K; fewer come back if Q * C is smaller.

    Returns:
        Labels [B, K] int64; boxes [B, K, 4] xyxy in pixels; scores [B, K] in [0, 1].
    """
    queries, labels, scores = best_pairs(output.logits, top_k)
    return labels, to_pixels(cxcywh_to_xyxy(output.boxes), queries, sizes), scores


def best_pairs(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query and class of the ``top_k`` highest of the logits [B, Q, C], and their scores; each [B, K], best first."""
    num_classes = logits.shape[-1]
    flat = logits.flatten(1)
    best, index = flat.topk(min(top_k, flat.shape[1]))
    queries = torch.div(index, num_classes, rounding_mode="floor")
    return queries, index - queries * num_classes, best.sigmoid()


def to_pixels(values: Tensor, queries: Tensor, sizes: Tensor) -> Tensor:
    """What belongs to some of the queries, from fractions of the image to pixels.

    Args:
        values: [B, Q, 4] along x, y, x, y, in fractions of the image.
        queries: [B, K] which are wanted.
        sizes: [B, 2] (width, height) of the original images in pixels.

    Returns:
        [B, K, 4]
    """
    wanted = values.gather(1, queries[..., None].expand(-1, -1, 4))
    return wanted * sizes.to(wanted.dtype).tile(2)[:, None]
