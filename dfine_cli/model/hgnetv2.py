"""HGNetV2, the convolutional backbone: image in, maps of the chosen stages out."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor, nn

from dfine_cli.model.hgnetv2_blocks import HgStage, Stem


class StageRow(NamedTuple):
    """Width and depth of a stage."""

    inputs: int
    """Input channels."""
    mid: int
    """Channels of every layer."""
    outputs: int
    """Output channels."""
    blocks: int
    """Blocks in the stage."""
    layers: int
    """Layers in a block."""


class Variant(NamedTuple):
    """Width and depth of a backbone."""

    stem_mid: int
    """Channels inside the stem."""
    stages: tuple[StageRow, StageRow, StageRow, StageRow]
    """Stages at strides 4, 8, 16 and 32; the first starts with the stem's output channels."""


VARIANTS: dict[str, Variant] = {
    "B0": Variant(
        16,
        (
            StageRow(16, 16, 64, 1, 3),
            StageRow(64, 32, 256, 1, 3),
            StageRow(256, 64, 512, 2, 3),
            StageRow(512, 128, 1024, 1, 3),
        ),
    ),
    "B1": Variant(
        24,
        (
            StageRow(32, 32, 64, 1, 3),
            StageRow(64, 48, 256, 1, 3),
            StageRow(256, 96, 512, 2, 3),
            StageRow(512, 192, 1024, 1, 3),
        ),
    ),
    "B2": Variant(
        24,
        (
            StageRow(32, 32, 96, 1, 4),
            StageRow(96, 64, 384, 1, 4),
            StageRow(384, 128, 768, 3, 4),
            StageRow(768, 256, 1536, 1, 4),
        ),
    ),
    "B3": Variant(
        24,
        (
            StageRow(32, 32, 128, 1, 5),
            StageRow(128, 64, 512, 1, 5),
            StageRow(512, 128, 1024, 3, 5),
            StageRow(1024, 256, 2048, 1, 5),
        ),
    ),
    "B4": Variant(
        32,
        (
            StageRow(48, 48, 128, 1, 6),
            StageRow(128, 96, 512, 1, 6),
            StageRow(512, 192, 1024, 3, 6),
            StageRow(1024, 384, 2048, 1, 6),
        ),
    ),
    "B5": Variant(
        32,
        (
            StageRow(64, 64, 128, 1, 6),
            StageRow(128, 128, 512, 2, 6),
            StageRow(512, 256, 1024, 5, 6),
            StageRow(1024, 512, 2048, 2, 6),
        ),
    ),
    "B6": Variant(
        48,
        (
            StageRow(96, 96, 192, 2, 6),
            StageRow(192, 192, 512, 3, 6),
            StageRow(512, 384, 1024, 6, 6),
            StageRow(1024, 768, 2048, 3, 6),
        ),
    ),
}
"""All backbones by name, small to large."""

_FIRST_LIGHT_STAGE = 2


class HGNetV2(nn.Module):
    """Stem and four stages at strides 4, 8, 16 and 32.

    Args:
        variant: Key of ``VARIANTS``.
        return_stages: Stages, counted from 0, whose maps are returned.
        learnable_affine: Scale and shift after every ReLU.
        freeze_stem: Keep the stem's parameters as they are.
        freeze_norm: Keep statistics and affine values of every batch norm as they are.
    """

    def __init__(
        self,
        variant: str,
        *,
        return_stages: Collection[int],
        learnable_affine: bool,
        freeze_stem: bool,
        freeze_norm: bool,
    ) -> None:
        super().__init__()
        row = VARIANTS[variant]
        self.return_stages = frozenset(return_stages)
        self.stem = Stem(
            row.stem_mid, row.stages[0].inputs, learnable_affine=learnable_affine, freeze_norm=freeze_norm
        )
        self.stages = nn.ModuleList(
            HgStage(
                *stage,
                downsample=index > 0,
                light=index >= _FIRST_LIGHT_STAGE,
                learnable_affine=learnable_affine,
                freeze_norm=freeze_norm,
            )
            for index, stage in enumerate(row.stages)
        )
        if freeze_stem:
            self.stem.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of the returned stages, fine to coarse; stage i is [B, C_i, H / 2**(i + 2), W / 2**(i + 2)].

        Args:
            images: [B, 3, H, W] RGB in [0, 1], H and W multiples of 32.
        """
        x, maps = self.stem(images), []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.return_stages:
                maps.append(x)
        return maps
