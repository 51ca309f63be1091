"""The encoder as it is deployed: the same sums in another order, with fewer multiplications.

A fusion block begins with a 1x1 convolution of two concatenated maps, which is the sum of one convolution of
each. So the one of the coarse map is taken before the map is enlarged, at a quarter of the cells, and the
convolutions that come before, which have no activation, become one with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfine_cli.export.deploy_attention import RowAttention
from dfine_cli.model.encoder import Aifi, AttentionLayer, HybridEncoder, position_embedding
from dfine_cli.model.encoder_blocks import FusionBlock
from dfine_cli.model.query_selection import Shapes


class DeployEncoder(nn.Module):
    """Backbone maps to fused levels.

    Args:
        encoder: The trained encoder, fused.
        shapes: (height, width) of every level, fine to coarse.
    """

    def __init__(self, encoder: HybridEncoder, shapes: Shapes) -> None:
        super().__init__()
        *projections, self.coarsest_proj = encoder.input_proj
        self.aifi = DeployAifi(encoder.encoder[0], shapes[-1])  # type: ignore[arg-type]
        self.top_down, self.bottom_up = nn.ModuleList(), nn.ModuleList()
        laterals = encoder.lateral_convs
        for lateral, block, project in zip(laterals, encoder.fpn_blocks, reversed(projections), strict=True):
            self.top_down.append(TopDown(block, lateral, project))  # type: ignore[arg-type]
        for down, block, lateral in zip(
            encoder.downsample_convs, encoder.pan_blocks, reversed(laterals), strict=True
        ):
            self.bottom_up.append(BottomUp(block, down, lateral))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Fused maps [B, h, H_l, W_l], fine to coarse, of the backbone's maps in that order."""
        *fine, coarsest = levels
        maps = [self.aifi(self.coarsest_proj(coarsest))]
        for step, level in zip(self.top_down, reversed(fine), strict=True):
            maps.append(step(maps[-1], level))
        *coarser, finest = maps
        outputs = [finest]
        for step, level in zip(self.bottom_up, reversed(coarser), strict=True):
            outputs.append(step(outputs[-1], level))
        return outputs


class TopDown(nn.Module):
    """A fine map with what a coarser one says about it.

    Args:
        block: The fusion block.
        lateral: 1x1 convolution of the coarse map before it is enlarged.
        project: 1x1 convolution of the backbone's map.
    """

    def __init__(self, block: FusionBlock, lateral: nn.Conv2d, project: nn.Conv2d) -> None:
        super().__init__()
        first, second = halves(block)
        self.coarse = chain(lateral, first)
        # One product is cheaper than two unless the backbone's map has many channels.
        merged = project.in_channels <= 2 * project.out_channels
        self.fine = chain(project, second) if merged else nn.Sequential(project, second)
        self.rest = AfterFirst(block)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """[B, h, 2H, 2W] from the fused map [B, h, H, W] and the backbone's [B, C, 2H, 2W]."""
        enlarged = F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="nearest")
        output: Tensor = self.rest(self.fine(fine) + enlarged)
        return output


class BottomUp(nn.Module):
    """A coarse map with what a finer one says about it.

    Args:
        block: The fusion block.
        down: Halving of the fine map.
        lateral: 1x1 convolution of the coarse map.
    """

    def __init__(self, block: FusionBlock, down: nn.Module, lateral: nn.Conv2d) -> None:
        super().__init__()
        first, second = halves(block)
        self.fine = nn.Sequential(down, first)
        self.coarse = chain(lateral, second)
        self.rest = AfterFirst(block)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """[B, h, H, W] from fused maps [B, h, 2H, 2W] and [B, h, H, W]."""
        output: Tensor = self.rest(self.fine(fine) + self.coarse(coarse))
        return output


class AfterFirst(nn.Module):
    """A fusion block after its first convolution.

    Args:
        block: The trained block, fused.
    """

    def __init__(self, block: FusionBlock) -> None:
        super().__init__()
        self.once, self.twice, self.last = block.cv2, block.cv3, block.cv4

    def forward(self, both: Tensor) -> Tensor:
        """[B, h, H, W] from the sums of the first convolution [B, 2h, H, W]."""
        both = F.silu(both)
        once = self.once(both.chunk(2, 1)[1])
        output: Tensor = self.last(torch.cat((both, once, self.twice(once)), 1))
        return output


class DeployAifi(nn.Module):
    """The attention between all cells of the coarsest map, on rows.

    Args:
        aifi: The trained module.
        shape: (height, width) of the map.
    """

    def __init__(self, aifi: Aifi, shape: tuple[int, int]) -> None:
        super().__init__()
        (layer,) = aifi.layers
        assert isinstance(layer, AttentionLayer)
        self.shape = shape
        self.width = layer.linear1.in_features
        count = shape[0] * shape[1]
        self.attention = RowAttention(layer.self_attn, count)
        self.linear1, self.linear2 = layer.linear1, layer.linear2
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        weight = layer.linear1.weight
        self.position: Tensor
        self.register_buffer(
            "position", position_embedding(*shape, self.width, aifi.order, weight.device, weight.dtype)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map of the shape of ``x`` [B, d, H, W]."""
        cells = self.shape[0] * self.shape[1]
        rows = x.flatten(2).transpose(1, 2)
        placed = (rows + self.position).reshape(-1, self.width)
        rows = rows.reshape(-1, self.width)
        rows = self.norm1(rows + self.attention(placed, rows))
        rows = self.norm2(rows + self.linear2(F.gelu(self.linear1(rows))))
        output: Tensor = rows.view(-1, cells, self.width).transpose(1, 2)
        return output.reshape(-1, self.width, *self.shape)


def halves(block: FusionBlock) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The first convolution of a block as one of its first map and one of its second, which has the bias."""
    conv = block.cv1[0]  # type: ignore[index]
    width = conv.in_channels // 2
    return pointwise(conv.weight[:, :width], None), pointwise(conv.weight[:, width:], conv.bias)


def chain(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """The 1x1 convolution that equals two of them, one after the other."""
    inner, outer = first.weight.double()[..., 0, 0], second.weight.double()[..., 0, 0]
    bias = torch.zeros(len(outer), dtype=torch.float64)
    for added in (outer @ first.bias.double() if first.bias is not None else None, second.bias):
        bias = bias if added is None else bias + added
    return pointwise((outer @ inner)[..., None, None].float(), bias.float())


def pointwise(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A frozen 1x1 convolution with these weights [out, in, 1, 1] and [out]."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=bias is not None, device="meta")
    conv.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return conv
