"""The decoder as it is deployed: what ``model.decoder`` computes in eval mode, in fewer and larger operations.

The rows of all images stand in one matrix [B * Q, d]. Layers that read the same input are one, constants are
folded into the weights before them, and sizes are constants of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dfine_cli.export.deploy_attention import RowAttention, linear
from dfine_cli.export.deploy_sampling import GatherSampler, GridSampler, Maps
from dfine_cli.model.decoder import Decoder
from dfine_cli.model.decoder_layers import HALF_LIMIT, MLP, DecoderLayer, LocationQuality
from dfine_cli.model.query_selection import Shapes, make_anchors

SAMPLERS = {"grid": GridSampler, "gather": GatherSampler}
"""How the maps are read; see ``spec.Sampling``."""

_LOGIT_LIMIT = 11.512925
"""``inverse_sigmoid`` gives no logit beyond it: that of its eps, 1e-5."""
_CERTAIN = 1000.0
"""Logit of 1, in place of infinity."""


class Rows(NamedTuple):
    """Predictions of all queries of all images."""

    logits: Tensor
    """[B * Q, C]."""
    boxes_xyxy: Tensor
    """[B * Q, 4] as fractions of the image; x2 may be below x1."""


class DeployDecoder(nn.Module):
    """Fused levels to predictions.

    Args:
        decoder: The trained decoder, fused.
        shapes: (height, width) of every level.
        sampling: Key of ``SAMPLERS``.
    """

    def __init__(self, decoder: Decoder, shapes: Shapes, sampling: str) -> None:
        super().__init__()
        cells = sum(height * width for height, width in shapes)
        self.queries = min(decoder.num_queries, cells)
        self.cells = cells
        self.width = decoder.enc_score_head.in_features
        self.bins = len(decoder.decoder.bin_offsets)
        self.input_proj = decoder.input_proj
        self.selection = QuerySelection(decoder, shapes, self.queries)
        self.box_head = decoder.enc_bbox_head
        self.pre_box_head = decoder.pre_bbox_head
        self.position_head = decoder.query_pos_head
        self.corner_heads = decoder.dec_bbox_head
        self.layers = nn.ModuleList(
            DeployLayer(layer, shapes, self.queries, sampling)  # type: ignore[arg-type]
            for layer in decoder.decoder.layers
        )
        self.score_head = decoder.dec_score_head[-1]
        self.quality = DeployQuality(decoder.decoder.lqe_layers[-1])  # type: ignore[arg-type]
        # Probabilities add up to 1, so that half a box may stand in every bin.
        scale = float(decoder.reg_scale)
        self.reach: Tensor
        self.register_buffer("reach", decoder.decoder.bin_offsets / scale + 0.5)
        self.outwards: Tensor
        self.register_buffer("outwards", torch.tensor([-1.0, -1.0, 1.0, 1.0]))

    def forward(self, levels: Sequence[Tensor], images: Tensor | None) -> Rows:
        """Predictions.

        Args:
            levels: Fused maps [B, h, H_l, W_l], fine to coarse.
            images: [B] number of each image; None for one image.
        """
        levels = [project(level) for project, level in zip(self.input_proj, levels, strict=True)]
        flat = torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2)
        cells = flat.reshape(-1, self.width)
        first_cells = None if images is None else _per_query(images * self.cells, self.queries)
        maps = Maps(levels, cells, first_cells)
        content, anchors = self.selection(cells, first_cells)
        box_logits = anchors + self.box_head(content)
        boxes = box_logits.sigmoid()
        centre, size = boxes.chunk(2, 1)
        corners, previous, low, high = None, None, None, None
        for index, layer in enumerate(self.layers):
            position = self.position_head(boxes).clamp(-10, 10)
            content = layer(content, position, centre, size, maps)
            if index == 0:
                initial = (
                    self.pre_box_head(content) + box_logits.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT)
                ).sigmoid()
                middle, extent = initial.chunk(2, 1)
                middles, extents = (
                    torch.cat((middle, middle), 1),
                    torch.cat((extent, extent), 1) * self.outwards,
                )
            step = self.corner_heads[index](content if previous is None else content + previous)
            corners = step if corners is None else corners + step
            probabilities = corners.view(-1, 4, self.bins).softmax(-1)
            edges = middles + extents * (probabilities * self.reach).sum(-1)
            previous = content
            if index + 1 < len(self.layers):
                low, high = edges.chunk(2, 1)
                centre, size = (low + high) * 0.5, high - low
                boxes = torch.cat((centre, size), 1)
        return Rows(self.score_head(content) + self.quality(probabilities), edges)


class QuerySelection(nn.Module):
    """The best cells: their features and anchors.

    Cells without a usable anchor count as cells of zeros, as in ``model.decoder``. What comes of zeros is
    known, so it is put in at the end, where there is one number a cell, and one row a query.

    Args:
        decoder: The trained decoder.
        shapes: (height, width) of every level.
        queries: Q.
    """

    anchors: Tensor
    """[A, 4] logits cxcywh."""
    usable: Tensor
    """[A, 1] bool."""
    blank: Tensor
    """[1, d], features of a cell of zeros."""
    blank_score: Tensor
    """[1], the best class logit of such a cell."""

    def __init__(self, decoder: Decoder, shapes: Shapes, queries: int) -> None:
        super().__init__()
        self.queries = queries
        self.features, self.scores = decoder.enc_output, decoder.enc_score_head
        anchors, usable = make_anchors(shapes)
        self.cells = usable.shape[1]
        self.all_usable = bool(usable.all())
        blank = self.features(torch.zeros(1, decoder.enc_score_head.in_features))
        for name, values in {
            "anchors": anchors[0].clamp(max=_CERTAIN),
            "usable": usable[0],
            "blank": blank,
            "blank_score": self.scores(blank).amax(1),
        }.items():
            self.register_buffer(name, values.detach().clone())

    def forward(self, cells: Tensor, first_cells: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features [B * Q, d] and anchor logits [B * Q, 4].

        Args:
            cells: [B * A, d].
            first_cells: [B * Q, 1], see ``Maps``.
        """
        features = self.features(cells)
        best = self.scores(features).amax(1).view(-1, self.cells)
        if not self.all_usable:
            best = best.where(self.usable[:, 0], self.blank_score)
        chosen = best.topk(self.queries).indices.view(-1)
        rows = chosen if first_cells is None else chosen + first_cells.view(-1)
        content = features.index_select(0, rows)
        if not self.all_usable:
            content = content.where(self.usable.index_select(0, chosen), self.blank)
        return content, self.anchors.index_select(0, chosen)


class DeployLayer(nn.Module):
    """``DecoderLayer`` on rows.

    Args:
        layer: The trained layer.
        shapes: (height, width) of every level.
        queries: Q.
        sampling: Key of ``SAMPLERS``.
    """

    def __init__(self, layer: DecoderLayer, shapes: Shapes, queries: int, sampling: str) -> None:
        super().__init__()
        self.self_attn = RowAttention(layer.self_attn, queries)
        self.norm1 = layer.norm1
        self.cross_attn = SAMPLERS[sampling](layer.cross_attn, shapes, queries)
        self.width = layer.linear1.in_features
        self.gate = layer.gateway.gate
        self.gate_norm = layer.gateway.norm
        self.linear1, self.linear2 = layer.linear1, layer.linear2
        self.norm3 = layer.norm3
        self.activate = layer.activate

    def forward(self, content: Tensor, position: Tensor, centre: Tensor, size: Tensor, maps: Maps) -> Tensor:
        """New content [B * Q, d] from content, position and the centre and size of the reference boxes."""
        content = self.norm1(content + self.self_attn(content + position, content))
        seen = self.cross_attn(content + position, centre, size, maps)
        both = torch.cat((content, seen), 1)
        mixed = (self.gate(both).sigmoid() * both).view(-1, 2, self.width).sum(1)
        content = self.gate_norm(mixed)
        grown = self.linear2(self.activate(self.linear1(content)))
        output: Tensor = self.norm3((content + grown).clamp(-HALF_LIMIT, HALF_LIMIT))
        return output


class DeployQuality(nn.Module):
    """``LocationQuality`` whose mean over the best bins is folded into the first layer.

    Args:
        quality: The trained module.
    """

    def __init__(self, quality: LocationQuality) -> None:
        super().__init__()
        self.best = quality.best
        first, *rest = quality.reg_conf.layers
        assert isinstance(first, nn.Linear)
        weight = first.weight.view(-1, 4, self.best + 1)
        folded = weight[..., :-1] + weight[..., -1:] / self.best
        self.head = MLP(1)
        self.head.layers = nn.ModuleList([linear(folded.flatten(1), first.bias), *rest])
        self.head.activate = quality.reg_conf.activate

    def forward(self, probabilities: Tensor) -> Tensor:
        """[B * Q, 1] from probabilities [B * Q, 4, R + 1]."""
        output: Tensor = self.head(probabilities.topk(self.best).values.view(-1, 4 * self.best))
        return output


def _per_query(values: Tensor, queries: int) -> Tensor:
    """[B * Q, 1] from one value per image [B]."""
    return values[:, None].repeat(1, queries).view(-1, 1)
