"""The decoder's layers and the loop that refines boxes through them (D-FINE, arXiv 2410.13842, section 4.1)."""

import copy
import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfine_cli.model.attention import MultiheadSelfAttention
from dfine_cli.model.deformable_attention import DeformableAttention
from dfine_cli.model.fdr import bin_probabilities, distances_to_boxes, expectation, weighting
from dfine_cli.model.query_selection import inverse_sigmoid
from dfine_cli.types import LayerOutput

HALF_LIMIT = 65504.0
"""Largest finite number of half precision."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu}
"""What may stand between the linear layers of the decoder: D-FINE is trained with ReLU, DEIM with SiLU."""


class MLP(nn.Module):
    """Linear layers with an activation between them, ReLU unless ``activate`` is set to another.

    Args:
        widths: Channels from the input to the output.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.activate = ACTIVATIONS["relu"]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, values: Tensor) -> Tensor:
        """[..., last width] from [..., first width]."""
        *hidden, last = self.layers
        for layer in hidden:
            values = self.activate(layer(values))
        output: Tensor = last(values)
        return output

    def zero_last(self) -> "MLP":
        """The same module, made to give zero until it is trained."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return self


class Gate(nn.Module):
    """Learned mix of what a query holds and what it has seen, in place of a residual sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, 2 * width)
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, held: Tensor, seen: Tensor) -> Tensor:
        """[B, Q, width] from two of that shape."""
        keep, take = self.gate(torch.cat((held, seen), -1)).sigmoid().chunk(2, -1)
        mixed: Tensor = self.norm(keep * held + take * seen)
        return mixed


class LocationQuality(nn.Module):
    """Correction of the class logits by how peaked the edge distributions are; not in the paper.

    Args:
        best: How many of an edge's largest probabilities are looked at.
        hidden: Inner width.
    """

    def __init__(self, best: int = 4, hidden: int = 64) -> None:
        super().__init__()
        self.best = best
        self.reg_conf = MLP(4 * (best + 1), hidden, 1).zero_last()

    def forward(self, probabilities: Tensor) -> Tensor:
        """[B, Q, 1], to be added to the logits of every class, from probabilities [B, Q, 4, R + 1]."""
        best = probabilities.topk(self.best).values
        peaks = torch.cat((best, best.mean(-1, keepdim=True)), -1)
        correction: Tensor = self.reg_conf(peaks.flatten(-2))
        return correction


class DecoderLayer(nn.Module):
    """Self-attention among the queries, deformable attention to the image, feed-forward network.

    The activation of the latter is ReLU unless ``activate`` is set to another.

    Args:
        width: Channels d of the queries.
        feedforward: Inner width of the feed-forward network.
        heads: Attention heads.
        points: Sampling points per head on each level.
    """

    def __init__(self, width: int, feedforward: int, heads: int, points: tuple[int, ...]) -> None:
        super().__init__()
        self.activate = ACTIVATIONS["relu"]
        self.self_attn = MultiheadSelfAttention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn = DeformableAttention(width, heads, points)
        self.gateway = Gate(width)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm3 = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(
        self,
        content: Tensor,
        position: Tensor,
        references_cxcywh: Tensor,
        levels: tuple[Tensor, ...],
        mask: Tensor | None,
    ) -> Tensor:
        """New content [B, Q, d].

        Args:
            content: [B, Q, d].
            position: [B, Q, d] embedding of the reference boxes.
            references_cxcywh: [B, Q, 4], fractions of the image.
            levels: Maps [B, d, H_l, W_l], fine to coarse.
            mask: [Q, Q] bool, True where a query (row) may not look; None allows everything.
        """
        query = content + position
        content = self.norm1(content + self.self_attn(query, query, content, mask))
        seen = self.cross_attn(content + position, references_cxcywh, levels)
        content = self.gateway(content, seen)
        grown = self.linear2(self.activate(self.linear1(content)))
        output: Tensor = self.norm3((content + grown).clamp(-HALF_LIMIT, HALF_LIMIT))
        return output


class Heads(NamedTuple):
    """The heads that read and steer the queries between the layers."""

    query_position: nn.Module
    """Reference box to position embedding."""
    pre_box: nn.Module
    """Plain box head of the first layer."""
    scores: nn.ModuleList
    """Class logits, one head a layer."""
    corners: nn.ModuleList
    """Edge-offset logits, one head a layer."""


class Refined(NamedTuple):
    """What the layers give; in eval mode only the last layer speaks."""

    layers: list[LayerOutput]
    pre: LayerOutput | None
    """Plain box head of the first layer; None if that layer does not speak."""


class DecoderStack(nn.Module):
    """Identical layers through which boxes are refined.

    Args:
        layer: Initialised layer, copied for every place.
        count: L.
        bins: R; distributions have R + 1 bins.
        up: Parameter a of W(n), [1].
        reg_scale: Parameter 1/c of W(n), [1].
    """

    def __init__(
        self, layer: DecoderLayer, count: int, bins: int, up: nn.Parameter, reg_scale: nn.Parameter
    ) -> None:
        super().__init__()
        self.bins = bins
        # published: all layers start from the same weights
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(count))
        self.lqe_layers = nn.ModuleList(LocationQuality() for _ in range(count))
        self.up = up
        self.reg_scale = reg_scale
        self.bin_offsets: Tensor
        self.register_buffer("bin_offsets", torch.empty(bins + 1), persistent=False)
        self.update_bin_offsets()

    def update_bin_offsets(self) -> None:
        """Compute W(n) anew from ``up`` and ``reg_scale``; on the meta device there are no values to do it from."""
        if self.up.is_meta:
            return
        offsets = weighting(self.bins, self.up.item(), self.reg_scale.item(), self.bin_offsets.dtype)
        self.bin_offsets.copy_(offsets)

    def forward(
        self,
        content: Tensor,
        box_logits: Tensor,
        levels: tuple[Tensor, ...],
        mask: Tensor | None,
        heads: Heads,
        every: bool = False,
    ) -> Refined:
        """Refine boxes layer by layer.

        Args:
            content: [B, Q, d].
            box_logits: [B, Q, 4] inverse sigmoid of the first boxes, cxcywh.
            levels: Maps [B, d, H_l, W_l], fine to coarse.
            mask: [Q, Q] bool, True = forbidden.
            heads: The heads between the layers.
            every: Let every layer speak in eval mode too; in training all of them do.
        """
        boxes = box_logits.sigmoid()
        pre, initial, previous, corners = None, boxes, None, None
        outputs = []
        for index, layer in enumerate(self.layers):
            position = heads.query_position(boxes).clamp(-10, 10)
            content = layer(content, position, boxes, levels, mask)
            if index == 0:
                pre_boxes = (heads.pre_box(content) + inverse_sigmoid(boxes)).sigmoid()
                initial = pre_boxes.detach()
            step = heads.corners[index](content if previous is None else content + previous).to(boxes.dtype)
            corners = step if corners is None else corners + step
            probabilities = bin_probabilities(corners, self.bins + 1)
            distances = expectation(probabilities, self.bin_offsets)
            refined = distances_to_boxes(initial, distances, self.reg_scale)
            if self.training or every or index == len(self.layers) - 1:
                logits = heads.scores[index](content)
                if index == 0:
                    pre = LayerOutput(logits, pre_boxes)
                quality = self.lqe_layers[index](probabilities)
                outputs.append(LayerOutput(logits + quality, refined, corners, initial))
            boxes, previous = refined.detach(), content.detach()
        return Refined(outputs, pre)
