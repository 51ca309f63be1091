"""The two ways in which an exported deformable attention reads the maps; both compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfine_cli.model.deformable_attention import DeformableAttention
from dfine_cli.model.query_selection import Shapes


class Maps(NamedTuple):
    """What is read: the levels of the encoder, in the layouts that the samplers want."""

    levels: Sequence[Tensor]
    """[B, d, H_l, W_l], fine to coarse."""
    cells: Tensor
    """[B * A, d], cell by cell."""
    first_cells: Tensor | None
    """[B * Q, 1] int64, row of ``cells`` where the image of a query begins; None for one image."""


class _Sampler(nn.Module):
    """Offsets and weights of all points by one product, whose columns are ordered and scaled as they are used.

    Args:
        attention: The layer's attention.
        shapes: (height, width) of every level.
        queries: Q.
        xy_first: Order of the offsets: all x, then all y; else x and y of each point side by side.
    """

    def __init__(
        self, attention: DeformableAttention, shapes: Shapes, queries: int, *, xy_first: bool, scale: float
    ) -> None:
        super().__init__()
        self.heads, self.queries = attention.heads, queries
        self.width = attention.sampling_offsets.in_features
        self.points = attention.points
        self.total = self.heads * sum(self.points)
        self.shapes = shapes
        offsets, weights = attention.sampling_offsets, attention.attention_weights
        # An offset of 1 is half a box, divided by the number of points of its level.
        factor = (attention.num_points_scale * scale).repeat(self.heads).repeat_interleave(2)
        order = torch.arange(2 * self.total)
        if xy_first:
            order = order.view(self.total, 2).T.flatten()
        merged = nn.Linear(offsets.in_features, 3 * self.total)
        merged.weight = _frozen(torch.cat(((offsets.weight * factor[:, None])[order], weights.weight)))
        merged.bias = _frozen(torch.cat(((offsets.bias * factor)[order], weights.bias)))
        self.offsets_and_weights = merged

    def _project(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets [B * Q, 2 * heads * P], and weights [B * Q, heads, P] that add up to 1."""
        offsets, weights = torch.split(self.offsets_and_weights(query), [2 * self.total, self.total], 1)
        return offsets, weights.view(-1, self.heads, self.total // self.heads).softmax(-1)


class GridSampler(_Sampler):
    """Through GridSample, one node a level."""

    def __init__(self, attention: DeformableAttention, shapes: Shapes, queries: int) -> None:
        super().__init__(attention, shapes, queries, xy_first=False, scale=1.0)

    def forward(self, query: Tensor, centre: Tensor, size: Tensor, maps: Maps) -> Tensor:
        """What the queries see, [B * Q, d].

        Args:
            query: [B * Q, d].
            centre: [B * Q, 2] of the reference boxes, x and y as fractions of the image.
            size: [B * Q, 2] of the same, width and height.
            maps: What is looked at.
        """
        offsets, weights = self._project(query)
        # GridSample counts from -1 to 1.
        grid = (2 * centre - 1)[:, None] + offsets.view(-1, self.total, 2) * size[:, None]
        by_head = self._by_head(grid.view(-1, self.heads, self.total // self.heads, 2))
        grids = torch.split(by_head, list(self.points), 2)
        seen = torch.cat(
            [
                F.grid_sample(level.reshape(-1, self.width // self.heads, *shape), part, align_corners=False)
                for level, shape, part in zip(maps.levels, self.shapes, grids, strict=True)
            ],
            3,
        )
        seen = (seen * self._by_head(weights)[:, None]).sum(-1)
        return seen.view(-1, self.width, self.queries).transpose(1, 2).reshape(-1, self.width)

    def _by_head(self, values: Tensor) -> Tensor:
        """[B * heads, Q, P, ...] from [B * Q, heads, P, ...]."""
        rest = [self.total // self.heads, 2][: values.dim() - 2]
        return (
            values.view(-1, self.queries, self.heads, *rest).transpose(1, 2).reshape(-1, self.queries, *rest)
        )


class GatherSampler(_Sampler):
    """With arithmetic and one Gather of rows; no GridSample, and no loop over the levels.

    A point lies between two columns and two rows of its map. The first of the two is kept inside, so that the
    second is inside as well; a neighbour further than a cell away has share 0. That makes everything outside of
    the map zero without a test.
    """

    sides: Tensor
    """[2, heads * P] width and height of the map of each point."""
    last_first: Tensor
    """[2, heads * P] where the first of two neighbours may be at most."""
    row_steps: Tensor
    """[heads * P] int32, from one row of the map to the next, counted in rows of the table that is gathered from."""
    begins: Tensor
    """[heads * P] int32, where the map of each point and its head begin."""
    corners: Tensor
    """[heads, P, 4] int32, from the first neighbour to all four."""
    neighbours: Tensor
    """[2, heads * P, 2] or [2], places of the two neighbours from the first."""

    def __init__(self, attention: DeformableAttention, shapes: Shapes, queries: int) -> None:
        super().__init__(attention, shapes, queries, xy_first=True, scale=0.5)
        each = self.total // self.heads
        level = torch.cat([torch.full((n,), i) for i, n in enumerate(self.points)]).repeat(self.heads)
        head = torch.arange(self.heads).repeat_interleave(each)
        sides = torch.tensor([(width, height) for height, width in shapes])[level].T
        starts = torch.tensor([0, *[height * width for height, width in shapes]]).cumsum(0)[level]
        step_x, step_y = torch.full_like(level, self.heads), sides[0] * self.heads
        # A map of one cell in a direction has no second one: its share is taken away.
        only = sides == 1
        step_x, second_y = step_x.where(~only[0], 0), step_y.where(~only[1], 0)
        corners = torch.stack((torch.zeros_like(step_x), step_x, second_y, step_x + second_y), -1)
        neighbours = torch.tensor([0.0, 1.0])
        if only.any():
            neighbours = torch.stack((torch.zeros(only.shape), torch.where(only, torch.inf, 1.0)), -1)
        # Places are counted in whole numbers: rounded constants would point elsewhere.
        for name, values in {
            "sides": sides.float(),
            "last_first": (sides - 2).clamp(min=0).float(),
            "row_steps": step_y.int(),
            "begins": (starts * self.heads + head).int(),
            "corners": corners.view(self.heads, each, 4).int(),
            "neighbours": neighbours,
        }.items():
            self.register_buffer(name, values)

    def forward(self, query: Tensor, centre: Tensor, size: Tensor, maps: Maps) -> Tensor:
        """What the queries see, [B * Q, d]; arguments as those of ``GridSampler``."""
        each = self.total // self.heads
        offsets, weights = self._project(query)
        places = centre[..., None] + offsets.view(-1, 2, self.total) * size[..., None]
        places = places * self.sides - 0.5
        first = torch.minimum(places.floor().clamp(min=0), self.last_first)
        shares = (1 - ((places - first)[..., None] - self.neighbours).abs()).relu()
        across, down = shares.chunk(2, 1)
        down = down.view(-1, self.total, 2) * weights.view(-1, self.total, 1)
        mix = down[..., None] * across.view(-1, self.total, 1, 2)
        column, row = first.int().chunk(2, 1)
        begins = row.view(-1, self.total) * self.row_steps + column.view(-1, self.total) * self.heads
        begins = begins + self.begins
        if maps.first_cells is not None:
            begins = begins + (maps.first_cells * self.heads).int()
        rows = (begins.view(-1, self.heads, each, 1) + self.corners).view(-1, self.heads, 4 * each)
        picked = F.embedding(rows, maps.cells.reshape(-1, self.width // self.heads))
        seen = mix.view(-1, self.heads, 1, 4 * each) @ picked
        return seen.view(-1, self.width)


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)
