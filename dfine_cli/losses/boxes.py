"""Box losses of matched pairs."""

from torch import Tensor

from dfine_cli.boxes import cxcywh_to_xyxy, giou
from dfine_cli.losses.heads import BoxPairs


def l1(pairs: BoxPairs) -> Tensor:
    """L1 distance over cxcywh [H], summed over pairs and divided by their number."""
    return (pairs.boxes_cxcywh - pairs.targets_cxcywh).abs().sum((1, 2)) / pairs.norm


def generalized_iou(pairs: BoxPairs) -> Tensor:
    """``1 - GIoU`` [H] (Rezatofighi et al., 2019), summed over pairs and divided by their number."""
    overlap = giou(cxcywh_to_xyxy(pairs.boxes_cxcywh), cxcywh_to_xyxy(pairs.targets_cxcywh))
    return (1 - overlap).sum(1) / pairs.norm
