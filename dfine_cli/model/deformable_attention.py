"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159) without value or output projection.

Each query reads a few points around its reference box from every level of the encoder. The features
themselves, cut into heads, are the values (D-FINE, arXiv 2410.13842, section 5.2).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeformableAttention(nn.Module):
    """Deformable cross-attention from queries to the levels of the encoder.

    Args:
        width: Channels of queries and levels.
        heads: Attention heads, a divisor of ``width``.
        points: Sampling points per head on each level.
    """

    def __init__(self, width: int, heads: int, points: Sequence[int]) -> None:
        super().__init__()
        self.heads = heads
        self.points = tuple(points)
        total = sum(self.points)
        scale = [1 / count for count in self.points for _ in range(count)]
        self.num_points_scale: Tensor
        self.register_buffer("num_points_scale", torch.tensor(scale, dtype=torch.float32))
        self.sampling_offsets = nn.Linear(width, heads * total * 2)
        self.attention_weights = nn.Linear(width, heads * total)
        self._initialise()

    def _initialise(self) -> None:
        """Heads look in different directions, the points of a head ever further out, all with equal weight."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack((angles.cos(), angles.sin()), -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        rank = torch.cat([torch.arange(1, count + 1) for count in self.points])
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_((directions[:, None] * rank[:, None]).flatten())

    def forward(self, query: Tensor, references_cxcywh: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """What the queries see.

        Args:
            query: [B, Q, width], content plus position.
            references_cxcywh: [B, Q, 4], fractions of the image.
            levels: Maps [B, width, H_l, W_l], fine to coarse.

        Returns:
            [B, Q, width].
        """
        batch, count, _ = query.shape
        offsets = self.sampling_offsets(query).view(batch, count, self.heads, -1, 2)
        weights = self.attention_weights(query).view(batch, count, self.heads, -1).softmax(-1)
        centre, size = references_cxcywh[:, :, None, None, :2], references_cxcywh[:, :, None, None, 2:]
        locations = centre + offsets * (self.num_points_scale[:, None] * 0.5) * size
        return sample_grid(levels, locations, weights, self.points)


def sample_grid(
    levels: Sequence[Tensor], locations: Tensor, weights: Tensor, points: Sequence[int]
) -> Tensor:
    """Weighted sum of bilinear samples, through ``grid_sample``; outside of a map is zero.

    Args:
        levels: Maps [B, heads * c, H_l, W_l].
        locations: [B, Q, heads, P, 2] x and y, fractions of the map.
        weights: [B, Q, heads, P].
        points: How many of the P points belong to each level.

    Returns:
        [B, Q, heads * c].
    """
    batch, count, heads = weights.shape[:3]
    grids = torch.split((2 * locations - 1).transpose(1, 2).flatten(0, 1), list(points), 2)
    shares = torch.split(weights.transpose(1, 2).flatten(0, 1).unsqueeze(1), list(points), 3)
    seen = torch.stack(
        [
            (F.grid_sample(_split_heads(level, heads), grid, align_corners=False) * share).sum(-1)
            for level, grid, share in zip(levels, grids, shares, strict=True)
        ]
    ).sum(0)
    return seen.view(batch, -1, count).transpose(1, 2)


def _split_heads(level: Tensor, heads: int) -> Tensor:
    """[B, heads * c, H, W] as [B * heads, c, H, W]."""
    batch, width, height, breadth = level.shape
    return level.reshape(batch * heads, width // heads, height, breadth)


def sample_gather(
    levels: Sequence[Tensor], locations: Tensor, weights: Tensor, points: Sequence[int]
) -> Tensor:
    """The same as ``sample_grid`` with nothing but arithmetic and one gather per level, for runtimes without it."""
    heads = weights.shape[2]
    places = torch.split(locations.transpose(1, 2).flatten(0, 1), list(points), 2)
    shares = torch.split(weights.transpose(1, 2).flatten(0, 1), list(points), 2)
    parts = [
        _gather_level(_split_heads(level, heads), place, share)
        for level, place, share in zip(levels, places, shares, strict=True)
    ]
    seen = torch.stack(parts).sum(0)
    return seen.view(len(locations), heads, *seen.shape[1:]).transpose(1, 2).flatten(2)


def _gather_level(values: Tensor, places: Tensor, shares: Tensor) -> Tensor:
    """[N, Q, c] from ``values`` [N, c, H, W] at ``places`` [N, Q, P, 2] with ``shares`` [N, Q, P]."""
    height, breadth = values.shape[-2:]
    left, x_shares = _neighbours(places[..., 0], breadth)
    top, y_shares = _neighbours(places[..., 1], height)
    cells = (top[..., :, None] * breadth + left[..., None, :]).flatten(2)
    mix = (y_shares[..., :, None] * x_shares[..., None, :] * shares[..., None, None]).flatten(2)
    rows = values.flatten(2).transpose(1, 2)
    index = cells.flatten(1)[..., None].expand(-1, -1, rows.shape[-1])
    picked = rows.gather(1, index).view(*cells.shape, -1)
    return (mix[..., None] * picked).sum(2)


def _neighbours(places: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The two cells around each place along one axis and their shares, [..., 2]; a share outside is zero."""
    position = (places * length - 0.5).clamp(-1, length)
    first = position.detach().floor()
    fraction = position - first
    cells = torch.stack((first, first + 1), -1)
    inside = (cells >= 0) & (cells < length)
    shares = torch.stack((1 - fraction, fraction), -1) * inside
    return cells.clamp(0, length - 1).long(), shares
