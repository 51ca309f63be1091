"""The model sizes N, S, M, L and X, one row each. Needs no torch, so that listing them is quick."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What tells one size from another: everything else is the same in all of them."""

    name: str
    """The letter, in lower case: n, s, m, l or x."""
    backbone: str
    """HGNetV2 variant, a row of ``hgnetv2.VARIANTS``."""
    learnable_affine: bool
    """Whether the backbone scales and shifts after every ReLU."""
    return_stages: tuple[int, ...]
    """Backbone stages, counted from 0, whose maps go to the encoder, fine to coarse."""
    freeze_stem: bool
    """Whether the stem keeps its pretrained weights."""
    freeze_norm: bool
    """Whether the backbone's batch norms keep their pretrained statistics and affine values."""
    in_channels: tuple[int, ...]
    """Channels of the maps the encoder gets, one a level."""
    strides: tuple[int, ...]
    """Input pixels per cell of the maps the encoder gets, one a level."""
    hidden: int
    """Channels of every encoder map."""
    feedforward: int
    """Inner width of the feed-forward part of the encoder's attention layer."""
    expansion: float
    """Inner width of the encoder's fusion blocks as a fraction of half their output."""
    depth: float
    """Re-parameterised convolutions of the encoder's fusion blocks as a fraction of three."""
    decoder_hidden: int
    """Width of the decoder; where it is not ``hidden`` the decoder projects its input maps."""
    decoder_feedforward: int
    """Inner width of the feed-forward part of a decoder layer."""
    points: tuple[int, ...]
    """Sampling points of the deformable attention per head, one number a level."""
    decoder_layers: int
    """Decoder layers, the L of D-FINE."""
    reg_scale: int
    """Inverse of the paper's c: how far an edge may move, larger is finer."""
    parameters: int
    """Parameters in training form with 80 classes, frozen ones counted."""

    @property
    def levels(self) -> int:
        """Number of maps that go through encoder and decoder."""
        return len(self.strides)


_THREE_LEVELS = (8, 16, 32)

_ROWS = (
    ModelSize(
        name="n",
        backbone="B0",
        learnable_affine=True,
        return_stages=(2, 3),
        freeze_stem=False,
        freeze_norm=False,
        in_channels=(512, 1024),
        strides=(16, 32),
        hidden=128,
        feedforward=512,
        expansion=0.34,
        depth=0.5,
        decoder_hidden=128,
        decoder_feedforward=512,
        points=(6, 6),
        decoder_layers=3,
        reg_scale=4,
        parameters=3_782_693,
    ),
    ModelSize(
        name="s",
        backbone="B0",
        learnable_affine=True,
        return_stages=(1, 2, 3),
        freeze_stem=False,
        freeze_norm=False,
        in_channels=(256, 512, 1024),
        strides=_THREE_LEVELS,
        hidden=256,
        feedforward=1024,
        expansion=0.5,
        depth=0.34,
        decoder_hidden=256,
        decoder_feedforward=1024,
        points=(3, 6, 3),
        decoder_layers=3,
        reg_scale=4,
        parameters=10_321_877,
    ),
    ModelSize(
        name="m",
        backbone="B2",
        learnable_affine=True,
        return_stages=(1, 2, 3),
        freeze_stem=False,
        freeze_norm=False,
        in_channels=(384, 768, 1536),
        strides=_THREE_LEVELS,
        hidden=256,
        feedforward=1024,
        expansion=1.0,
        depth=0.67,
        decoder_hidden=256,
        decoder_feedforward=1024,
        points=(3, 6, 3),
        decoder_layers=4,
        reg_scale=4,
        parameters=19_590_064,
    ),
    ModelSize(
        name="l",
        backbone="B4",
        learnable_affine=False,
        return_stages=(1, 2, 3),
        freeze_stem=True,
        freeze_norm=True,
        in_channels=(512, 1024, 2048),
        strides=_THREE_LEVELS,
        hidden=256,
        feedforward=1024,
        expansion=1.0,
        depth=1.0,
        decoder_hidden=256,
        decoder_feedforward=1024,
        points=(3, 6, 3),
        decoder_layers=6,
        reg_scale=4,
        parameters=31_244_152,
    ),
    ModelSize(
        name="x",
        backbone="B5",
        learnable_affine=False,
        return_stages=(1, 2, 3),
        freeze_stem=True,
        freeze_norm=True,
        in_channels=(512, 1024, 2048),
        strides=_THREE_LEVELS,
        hidden=384,
        feedforward=2048,
        expansion=1.0,
        depth=1.0,
        # published: the decoder of X stays at 256 and 1024; the paper's table says 384 and 2048.
        decoder_hidden=256,
        decoder_feedforward=1024,
        points=(3, 6, 3),
        decoder_layers=6,
        reg_scale=8,
        parameters=62_621_560,
    ),
)

SIZES: dict[str, ModelSize] = {row.name: row for row in _ROWS}
"""All sizes by name, small to large."""
