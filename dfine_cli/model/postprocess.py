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
    num_classes = output.logits.shape[-1]
    flat = output.logits.flatten(1)
    best, index = flat.topk(min(top_k, flat.shape[1]))
    query = torch.div(index, num_classes, rounding_mode="floor")
    labels = index - query * num_classes
    boxes_xyxy = cxcywh_to_xyxy(output.boxes).gather(1, query[..., None].expand(-1, -1, 4))
    return labels, boxes_xyxy * sizes.to(boxes_xyxy.dtype).tile(2)[:, None], best.sigmoid()
