"""The decoder of D-FINE: from fused feature maps to predictions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfine_cli.model.decoder_layers import ACTIVATIONS, MLP, DecoderLayer, DecoderStack, Heads, Refined
from dfine_cli.model.denoising import DenoisingQueries, attention_mask, make_denoising_queries
from dfine_cli.model.fdr import edge_spread
from dfine_cli.model.fuse import merge, with_weights
from dfine_cli.model.query_selection import Proposals, Shapes, make_anchors, select_proposals
from dfine_cli.types import (
    DenoisingOutput,
    EncoderFeatures,
    LayerOutput,
    ModelOutput,
    Size,
    Target,
)

PRIOR = 0.01
"""Probability of every class before training."""


class ProposalFeatures(nn.Module):
    """Projection and norm of the encoder's cells before they become queries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.proj.weight)

    def forward(self, memory: Tensor) -> Tensor:
        """[B, A, d] from the same."""
        projected: Tensor = self.norm(self.proj(memory))
        return projected


class LevelProjection(nn.Module):
    """1x1 convolution and norm that bring a map to the decoder's width."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 1, bias=False)
        self.norm = nn.BatchNorm2d(width_out)
        nn.init.xavier_uniform_(self.conv.weight)

    def forward(self, level: Tensor) -> Tensor:
        """[B, width_out, H, W] from [B, width_in, H, W]."""
        projected: Tensor = self.norm(self.conv(level))
        return projected

    def fuse(self) -> nn.Module:
        """One convolution with bias."""
        return with_weights(self.conv, *merge(self.conv, self.norm))


class Decoder(nn.Module):
    """Query selection, denoising queries, and the refinement of boxes through the layers.

    Args:
        num_classes: C.
        feature_width: Channels of the maps that come in.
        width: Channels d of the queries.
        feedforward: Inner width of the layers.
        strides: Pixels per cell of each level.
        points: Sampling points per head on each level.
        num_layers: L.
        input_size: (height, width) in pixels whose anchors are stored with the weights.
        num_queries: Q.
        bins: R.
        up: The paper's a.
        reg_scale: The inverse of the paper's c; an int is stored as one, as in published weights.
        num_denoising: Positive denoising queries per image aimed at; 0 for none.
        label_noise: Label noise ratio of denoising queries.
        box_noise: Box noise scale of denoising queries.
        heads: Attention heads of the layers.
        activation: Key of ``ACTIVATIONS``: what stands between all linear layers here.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        feature_width: int,
        width: int,
        feedforward: int,
        strides: Sequence[int],
        points: tuple[int, ...],
        num_layers: int,
        input_size: Size,
        num_queries: int = 300,
        bins: int = 32,
        up: float = 0.5,
        reg_scale: float = 4,
        num_denoising: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
        heads: int = 8,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.num_denoising = num_denoising
        self.label_noise = label_noise
        self.box_noise = box_noise
        self.up = nn.Parameter(torch.tensor([up], dtype=torch.float32), requires_grad=False)
        self.reg_scale = nn.Parameter(torch.tensor([reg_scale]), requires_grad=False)
        self.input_proj = nn.ModuleList(
            LevelProjection(feature_width, width) if feature_width != width else nn.Identity()
            for _ in strides
        )
        layer = DecoderLayer(width, feedforward, heads, points)
        self.decoder = DecoderStack(layer, num_layers, bins, self.up, self.reg_scale)
        self.denoising_class_embed = nn.Embedding(num_classes + 1, width, padding_idx=num_classes)
        self.query_pos_head = MLP(4, 2 * width, width)
        self.enc_output = ProposalFeatures(width)
        self.enc_score_head = nn.Linear(width, num_classes)
        self.enc_bbox_head = MLP(width, width, width, 4).zero_last()
        self.pre_bbox_head = MLP(width, width, width, 4).zero_last()
        self.dec_score_head = nn.ModuleList(nn.Linear(width, num_classes) for _ in range(num_layers))
        self.dec_bbox_head = nn.ModuleList(
            MLP(width, width, width, 4 * (bins + 1)).zero_last() for _ in range(num_layers)
        )
        for module in self.modules():
            if isinstance(module, MLP | DecoderLayer):
                module.activate = ACTIVATIONS[activation]
        self._initialise()
        self._stored_shapes: Shapes = tuple(
            (input_size[0] // stride, input_size[1] // stride) for stride in strides
        )
        self.anchors: Tensor
        self.valid_mask: Tensor
        anchors, usable = make_anchors(self._stored_shapes)
        self.register_buffer("anchors", anchors)
        self.register_buffer("valid_mask", usable)
        self._other_anchors: dict[tuple[Shapes, torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def _initialise(self) -> None:
        for head in (self.enc_score_head, *self.dec_score_head):
            assert isinstance(head, nn.Linear)
            nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))
        for layer in self.query_pos_head.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, features: EncoderFeatures, targets: Sequence[Target] | None = None) -> ModelOutput:
        """Predictions; in eval mode of the last layer only.

        Args:
            features: Fused levels of the encoder.
            targets: One per image, for denoising queries; they are made in training mode only.
        """
        levels = self._project(features)
        proposals = self._propose(levels)
        proposed = proposals.box_logits + self.enc_bbox_head(proposals.content)
        content, box_logits, mask = proposals.content.detach(), proposed.detach(), None
        denoising = self._denoise(targets, box_logits.dtype) if self.training else None
        if denoising is not None:
            content = torch.cat((denoising.content.to(content.dtype), content), 1)
            mask = attention_mask(
                denoising.content.shape[1], denoising.groups, box_logits.shape[1], box_logits.device
            )
            box_logits = torch.cat((denoising.box_logits, box_logits), 1)
        refined = self.decoder(content, box_logits, _values(levels, box_logits.dtype), mask, self._heads())
        if not self.training:
            return ModelOutput(final=refined.layers[-1], features=features)
        encoder = LayerOutput(proposals.logits, proposed.sigmoid())
        output: ModelOutput = _training_output(refined, encoder, denoising, features)
        return output

    def all_layers(self, features: EncoderFeatures) -> list[LayerOutput]:
        """What every layer predicts, first to last, where ``forward`` in eval mode gives the last one alone.

        Args:
            features: Fused levels of the encoder.

        Raises:
            ValueError: The model is fused, which takes out the heads of the earlier layers.
        """
        if not all(isinstance(head, nn.Linear) for head in self.dec_score_head):
            raise ValueError("a fused model has no heads for its earlier layers")
        levels = self._project(features)
        proposals = self._propose(levels)
        proposed = proposals.box_logits + self.enc_bbox_head(proposals.content)
        values = _values(levels, proposed.dtype)
        refined: Refined = self.decoder(proposals.content, proposed, values, None, self._heads(), every=True)
        return refined.layers

    def _project(self, features: EncoderFeatures) -> list[Tensor]:
        """The levels at the decoder's width."""
        return [project(level) for project, level in zip(self.input_proj, features.levels, strict=True)]

    def _propose(self, levels: Sequence[Tensor]) -> Proposals:
        """The cells with the best class scores."""
        anchors, usable = self._anchors_for(levels)
        memory = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        projected = self.enc_output(memory * usable.to(memory.dtype))
        return select_proposals(projected, self.enc_score_head(projected), anchors, self.num_queries)

    def _anchors_for(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Anchor logits and usable mask for levels of any shape; those of ``input_size`` are stored weights."""
        shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
        if shapes == self._stored_shapes:
            return self.anchors, self.valid_mask
        key = (shapes, self.anchors.device, self.anchors.dtype)
        if key not in self._other_anchors:
            with torch.inference_mode(False):  # a tensor made in inference mode could not be trained with
                anchors, usable = make_anchors(shapes)
                self._other_anchors[key] = anchors.to(self.anchors), usable.to(self.anchors.device)
        return self._other_anchors[key]

    def _denoise(self, targets: Sequence[Target] | None, dtype: torch.dtype) -> DenoisingQueries | None:
        made: DenoisingQueries | None = make_denoising_queries(
            targets or (),
            self.denoising_class_embed,
            self.num_denoising,
            self.label_noise,
            self.box_noise,
            dtype,
        )
        return made

    def _heads(self) -> Heads:
        return Heads(self.query_pos_head, self.pre_bbox_head, self.dec_score_head, self.dec_bbox_head)

    def edge_spread(self, output: LayerOutput) -> Tensor:
        """Standard deviations [B, Q, 4] of the edges of predicted boxes, in fractions of the image.

        Args:
            output: Of one of the layers here; see ``fdr.edge_spread``.
        """
        assert output.corners is not None and output.references is not None
        return edge_spread(output.corners, self.decoder.bin_offsets, output.references, self.reg_scale)

    def drop_unused(self) -> None:
        """Take out the score heads that only training needs; the rest keeps its names."""
        last = len(self.decoder.layers) - 1
        for index in range(last):
            self.dec_score_head[index] = nn.Identity()
            self.decoder.lqe_layers[index] = nn.Identity()


def _values(levels: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Once for all layers: the precision of the locations, and a layout that can be cut into heads as it is."""
    return tuple(level.to(dtype).contiguous() for level in levels)


# Outside of a compiled graph: views that a graph returns would be replayed from their base, and those of two
# different cuts through one tensor are mixed up once its shape is dynamic.
@torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
def _training_output(
    refined: Refined,
    encoder: LayerOutput,
    denoising: DenoisingQueries | None,
    features: EncoderFeatures,
) -> ModelOutput:
    """Sort the layers' predictions into those of the usual queries and those of the denoising ones."""
    assert refined.pre is not None
    first = 0 if denoising is None else denoising.content.shape[1]
    *aux, final = [_queries(layer, first, None) for layer in refined.layers]
    return ModelOutput(
        final=final,
        features=features,
        aux=tuple(aux),
        pre=_queries(refined.pre, first, None),
        encoder=(encoder,),
        denoising=None
        if denoising is None
        else DenoisingOutput(
            layers=tuple(_queries(layer, 0, first) for layer in refined.layers),
            pre=_queries(refined.pre, 0, first),
            positives=denoising.positives,
            groups=denoising.groups,
        ),
    )


def _queries(output: LayerOutput, start: int, end: int | None) -> LayerOutput:
    """The predictions of queries ``start`` to ``end``."""
    corners, references = output.corners, output.references
    return LayerOutput(
        output.logits[:, start:end],
        output.boxes[:, start:end],
        None if corners is None else corners[:, start:end],
        None if references is None else references[:, start:end],
    )
