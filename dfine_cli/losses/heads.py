"""The supervised outputs of a step, stacked, with what each is matched to.

Outputs over the same queries form a group, so that a loss is one computation for all of them:

* matching queries: the L decoder layers, the plain box head of the first layer (``_pre``), the encoder
  proposals (``_enc_0``). Classes follow the head's own assignment, boxes and distributions the union (GO).
* denoising queries: the L decoder layers (``_dn_i``) and the plain box head (``_dn_pre``). A positive query
  belongs to the object it was made from, in all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dfine_cli.boxes import cxcywh_to_xyxy, iou
from dfine_cli.errors import DfineError
from dfine_cli.losses.matcher import Costs, Objects, Pairs, gather_objects, match
from dfine_cli.types import DenoisingOutput, LayerOutput, ModelOutput, Target


class ClassPairs(NamedTuple):
    """Matched queries and classes of H stacked heads."""

    positions: Tensor
    """[H, K] int64, place of the matched class in logits [B * Q * C]."""
    ious: Tensor
    """[H, K] IoU of the query's box with its object, without gradient."""
    norm: float
    """Number of pairs that the loss is divided by."""


class BoxPairs(NamedTuple):
    """Matched queries and boxes of H stacked heads."""

    rows: Tensor
    """[K] int64, place of the query in [B * Q], the same for all heads."""
    boxes_cxcywh: Tensor
    """[H, K, 4] predicted boxes, with gradient."""
    targets_cxcywh: Tensor
    """[K, 4] boxes of the objects."""
    ious: Tensor
    """[H, K] IoU of the two, without gradient."""
    norm: float
    """Number of pairs that the loss is divided by."""


class HeadGroup(NamedTuple):
    """H heads over the same queries; the first L are the decoder layers, first to last."""

    suffixes: tuple[str, ...]
    """H endings of the names of loss terms."""
    logits: Tensor
    """[H, B, Q, C]."""
    corners: tuple[Tensor, ...]
    """L edge-offset logits [B * Q, 4, R + 1]; the last is the teacher of the others."""
    references: Tensor
    """[B * Q, 4] cxcywh boxes the offsets are measured from, the same for all layers."""
    class_pairs: ClassPairs
    box_pairs: BoxPairs


class _Stack(NamedTuple):
    """Outputs of H heads, at least float32."""

    logits: Tensor
    boxes_cxcywh: Tensor
    corners: tuple[Tensor, ...]
    references: Tensor


def group_heads(
    outputs: ModelOutput, targets: Sequence[Target], costs: Costs
) -> tuple[HeadGroup, HeadGroup | None]:
    """The matching group, and the denoising group if there are denoising queries.

    Args:
        outputs: Training outputs of the model.
        targets: What the images contain, on the same device.
        costs: Weights of the matching costs.
    """
    layers = (*outputs.aux, outputs.final)
    plain = outputs.encoder if outputs.pre is None else (outputs.pre, *outputs.encoder)
    suffixes = [f"_aux_{i}" for i in range(len(outputs.aux))] + [""]
    suffixes += ["_pre"] * (outputs.pre is not None)
    suffixes += [f"_enc_{i}" for i in range(len(outputs.encoder))]
    stack = _stack(layers, plain)
    objects = gather_objects(targets, stack.boxes_cxcywh)
    own, union = match(stack.logits, stack.boxes_cxcywh, objects, costs)
    objects_norm, union_norm = (float(max(len(rows), 1)) for rows in (objects.labels, union.rows))
    matching = HeadGroup(
        suffixes=tuple(suffixes),
        logits=stack.logits,
        corners=stack.corners,
        references=stack.references,
        class_pairs=_class_pairs(stack, own, objects, objects_norm),
        box_pairs=_box_pairs(stack, union, objects, union_norm),
    )
    if outputs.denoising is None:
        return matching, None
    return matching, _denoising_group(outputs.denoising, objects, objects_norm)


def _denoising_group(denoising: DenoisingOutput, objects: Objects, objects_norm: float) -> HeadGroup:
    stack = _stack(denoising.layers, (denoising.pre,))
    heads, _, queries, classes = stack.logits.shape
    images, columns, origins = (field.to(stack.logits.device) for field in denoising.positives)
    positives = Pairs(images * queries + columns, origins)
    box_pairs = _box_pairs(stack, positives, objects, objects_norm * denoising.groups)
    positions = positives.rows * classes + objects.labels[origins]
    return HeadGroup(
        suffixes=(*(f"_dn_{i}" for i in range(len(denoising.layers))), "_dn_pre"),
        logits=stack.logits,
        corners=stack.corners,
        references=stack.references,
        class_pairs=ClassPairs(positions.expand(heads, -1), box_pairs.ious, box_pairs.norm),
        box_pairs=box_pairs,
    )


def _stack(layers: Sequence[LayerOutput], plain: Sequence[LayerOutput]) -> _Stack:
    """Decoder ``layers``, then heads without distributions."""
    last = layers[-1]
    corners = [layer.corners for layer in layers if layer.corners is not None]
    if len(corners) != len(layers) or last.references is None:
        raise DfineError("a decoder layer has no edge distributions", "the losses need training outputs")
    return _Stack(
        logits=_at_least_float32(torch.stack([head.logits for head in (*layers, *plain)])),
        boxes_cxcywh=_at_least_float32(torch.stack([head.boxes for head in (*layers, *plain)])),
        corners=tuple(_at_least_float32(c).reshape(-1, 4, c.shape[-1] // 4) for c in corners),
        references=_at_least_float32(last.references).detach().flatten(0, 1),
    )


def _class_pairs(stack: _Stack, own: Pairs, objects: Objects, norm: float) -> ClassPairs:
    boxes_cxcywh = stack.boxes_cxcywh.detach().flatten(1, 2)
    boxes_cxcywh = boxes_cxcywh.gather(1, own.rows[..., None].expand(-1, -1, 4))
    return ClassPairs(
        positions=own.rows * stack.logits.shape[-1] + objects.labels[own.objects],
        ious=_iou(boxes_cxcywh, objects.boxes[own.objects]),
        norm=norm,
    )


def _box_pairs(stack: _Stack, pairs: Pairs, objects: Objects, norm: float) -> BoxPairs:
    boxes_cxcywh = stack.boxes_cxcywh.flatten(1, 2).index_select(1, pairs.rows)
    targets_cxcywh = objects.boxes[pairs.objects]
    ious = _iou(boxes_cxcywh.detach(), targets_cxcywh)
    return BoxPairs(pairs.rows, boxes_cxcywh, targets_cxcywh, ious, norm)


def _iou(a_cxcywh: Tensor, b_cxcywh: Tensor) -> Tensor:
    return iou(cxcywh_to_xyxy(a_cxcywh), cxcywh_to_xyxy(b_cxcywh))


def _at_least_float32(values: Tensor) -> Tensor:
    """``values`` in float32 if they are in half precision: IoU and log(p + 1e-8) need it."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
