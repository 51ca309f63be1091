"""HybridEncoder: attention on the coarsest level (AIFI), then fusion of the levels top-down and bottom-up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfine_cli.model.attention import MultiheadSelfAttention
from dfine_cli.model.encoder_blocks import ConvNorm, FusionBlock, ScDown
from dfine_cli.types import EncoderFeatures

PositionOrder = Literal["aligned", "published"]

_HEADS = 8
_TEMPERATURE = 10_000.0


class HybridEncoder(nn.Module):
    """Backbone maps in, as many fused maps of one width out.

    Args:
        in_channels: Channels of the backbone maps, fine to coarse.
        hidden: Channels of every map inside, h; a multiple of 8.
        feedforward: Inner width of the feed-forward part of the attention layer.
        expansion: Inner width of the fusion blocks as a fraction of h / 2.
        depth: Re-parameterised blocks per CSP layer as a fraction of three.
        position_embedding: See ``position_embedding``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        hidden: int,
        feedforward: int,
        expansion: float,
        depth: float,
        position_embedding: PositionOrder = "aligned",
    ) -> None:
        super().__init__()
        steps = range(len(in_channels) - 1)
        inner, blocks = int(expansion * hidden / 2), round(3 * depth)
        self.input_proj = nn.ModuleList(ConvNorm(channels, hidden, 1) for channels in in_channels)
        self.encoder = nn.ModuleList([Aifi(hidden, feedforward, position_embedding)])
        self.lateral_convs = nn.ModuleList(ConvNorm(hidden, hidden, 1) for _ in steps)
        self.fpn_blocks = nn.ModuleList(FusionBlock(hidden, inner, blocks) for _ in steps)
        self.downsample_convs = nn.ModuleList(nn.Sequential(ScDown(hidden)) for _ in steps)
        self.pan_blocks = nn.ModuleList(FusionBlock(hidden, inner, blocks) for _ in steps)

    def forward(self, levels: Sequence[Tensor]) -> EncoderFeatures:
        """Fused maps and the AIFI map.

        Args:
            levels: Backbone maps [B, C_l, H_l, W_l], fine to coarse, each half the size of the one before.
        """
        *fine, coarsest = (project(x) for project, x in zip(self.input_proj, levels, strict=True))
        aifi = self.encoder[0](coarsest)
        return EncoderFeatures(self._bottom_up(self._top_down(fine, aifi)), aifi)

    def _top_down(self, fine: list[Tensor], coarsest: Tensor) -> list[Tensor]:
        """Fused maps, coarse to fine; all but the finest have passed their lateral convolution."""
        maps = [coarsest]
        for lateral, block, level in zip(self.lateral_convs, self.fpn_blocks, reversed(fine), strict=True):
            maps[-1] = lateral(maps[-1])
            maps.append(block(F.interpolate(maps[-1], scale_factor=2.0, mode="nearest"), level))
        return maps

    def _bottom_up(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """Fused maps, fine to coarse, of maps given coarse to fine."""
        *coarser, finest = maps
        outputs = [finest]
        for down, block, level in zip(self.downsample_convs, self.pan_blocks, reversed(coarser), strict=True):
            outputs.append(block(down(outputs[-1]), level))
        return tuple(outputs)


class Aifi(nn.Module):
    """Attention between all cells of one map: an embedding of the position, then one transformer layer.

    Args:
        width: Channels of the map, a multiple of 8.
        feedforward: Inner width of the feed-forward part.
        order: See ``position_embedding``.
    """

    def __init__(self, width: int, feedforward: int, order: PositionOrder) -> None:
        super().__init__()
        self.order: PositionOrder = order
        self.layers = nn.ModuleList([AttentionLayer(width, feedforward)])

    def forward(self, x: Tensor) -> Tensor:
        """Map of the shape of ``x`` [B, width, H, W]."""
        _, width, rows, columns = x.shape
        position = position_embedding(rows, columns, width, self.order, x.device, x.dtype)
        tokens = x.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, position)
        return tokens.transpose(1, 2).reshape(x.shape)


class AttentionLayer(nn.Module):
    """Transformer encoder layer with the norms after the sums, GELU and no dropout.

    Args:
        width: Channels of a token.
        feedforward: Inner width of the feed-forward part.
    """

    def __init__(self, width: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = MultiheadSelfAttention(width, _HEADS)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Tokens [B, N, width] of tokens ``x`` with the embedding ``position`` [N, width]."""
        placed = x + position
        x = self.norm1(x + self.self_attn(placed, placed, x))
        x = self.norm2(x + self.linear2(F.gelu(self.linear1(x))))
        return x


def position_embedding(
    rows: int, columns: int, width: int, order: PositionOrder, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Sine embedding [rows * columns, width] of the cells of a map, row by row; made once and kept.

    A cell is embedded as sin and cos of its row, then sin and cos of its column, each times ``width / 4``
    frequencies from 1 down to nearly 1 / 10000.

    Args:
        rows: Height of the map.
        columns: Width of the map.
        width: Channels of a token, a multiple of 4.
        order: ``published`` numbers the cells column by column, which leaves the embedding of maps
            that are not square unrelated to their cells; ``aligned`` is the same on square maps.
        device: Where to put it.
        dtype: What to cast it to; it is computed in float32.
    """
    make = _make_position_embedding if torch.compiler.is_compiling() else _kept_position_embedding
    return make(int(rows), int(columns), width, order, device, dtype)


def _make_position_embedding(
    rows: int, columns: int, width: int, order: PositionOrder, device: torch.device, dtype: torch.dtype
) -> Tensor:
    cell = torch.arange(rows * columns, device=device)
    # published: the grid is made with the width first, so counting runs down the columns.
    period = rows if order == "published" else columns
    steps = torch.arange(width // 4, dtype=torch.float32, device=device) / (width // 4)
    frequencies = _TEMPERATURE**-steps
    slow = torch.div(cell, period, rounding_mode="floor")[:, None] * frequencies
    quick = (cell % period)[:, None] * frequencies
    return torch.cat((slow.sin(), slow.cos(), quick.sin(), quick.cos()), 1).to(dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _kept_position_embedding(
    rows: int, columns: int, width: int, order: PositionOrder, device: torch.device, dtype: torch.dtype
) -> Tensor:
    # A tensor made in inference mode could not be used in training later on.
    return _make_position_embedding(rows, columns, width, order, device, dtype)
