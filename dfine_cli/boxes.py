"""The only box arithmetic: conversions, IoU and GIoU. Every box is [..., 4]."""

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size to corners. Negative sizes count as 0, so x1 <= x2 and y1 <= y2."""
    centre, half = boxes[..., :2], boxes[..., 2:].clamp(min=0) * 0.5
    return torch.cat((centre - half, centre + half), -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners to centre and size; a box with x2 < x1 keeps its negative width."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((low + high) * 0.5, high - low), -1)


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """COCO's corner and size to corners."""
    return torch.cat((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), -1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Corners to COCO's corner and size."""
    return torch.cat((boxes[..., :2], boxes[..., 2:] - boxes[..., :2]), -1)


def area(boxes_xyxy: Tensor) -> Tensor:
    """Areas [...] of xyxy boxes."""
    size = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    return size[..., 0] * size[..., 1]


def _intersection_and_union(a_xyxy: Tensor, b_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    size = (high - low).clamp(min=0)
    intersection = size[..., 0] * size[..., 1]
    return intersection, area(a_xyxy) + area(b_xyxy) - intersection


def iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Intersection over union [...] of boxes that correspond or broadcast; 0 where both are empty.

    ``iou(a[:, None], b[None])`` is the matrix of all pairs.
    """
    intersection, union = _intersection_and_union(a_xyxy, b_xyxy)
    return _ratio(intersection, union)


def giou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Generalised IoU [...], in [-1, 1] (Rezatofighi et al., 2019), of boxes that correspond or broadcast."""
    intersection, union = _intersection_and_union(a_xyxy, b_xyxy)
    low = torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    size = high - low
    hull = size[..., 0] * size[..., 1]
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, 0 where ``whole`` is 0, with finite gradients there too."""
    return part / torch.where(whole > 0, whole, torch.ones_like(whole))
