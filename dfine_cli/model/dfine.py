"""D-FINE, whole: backbone, encoder and decoder (arXiv 2410.13842)."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfine_cli.errors import UsageError
from dfine_cli.model.decoder import Decoder
from dfine_cli.model.encoder import HybridEncoder
from dfine_cli.model.fuse import fuse_model
from dfine_cli.model.hgnetv2 import HGNetV2
from dfine_cli.model.sizes import SIZES, ModelSize
from dfine_cli.types import LayerOutput, ModelOutput, Size, Target

STRIDE = 32
"""Pixels per cell of the coarsest level: inputs are multiples of it in both directions."""


class DFINE(nn.Module):
    """A D-FINE detector; ``build_model`` makes one.

    Parameter names are those of the published weights.

    Args:
        backbone: Images to feature maps.
        encoder: Feature maps to fused levels.
        decoder: Fused levels to predictions.
        size: Name of the model size.
        num_classes: C.
        input_size: (height, width) in pixels whose constants are stored; other sizes work as well.
    """

    def __init__(
        self,
        *,
        backbone: HGNetV2,
        encoder: HybridEncoder,
        decoder: Decoder,
        size: str,
        num_classes: int,
        input_size: Size,
    ) -> None:
        super().__init__()
        self.size = size
        self.num_classes = num_classes
        self.input_size = input_size
        self.backbone = backbone
        self.decoder = decoder
        self.encoder = encoder

    def forward(self, images: Tensor, targets: Sequence[Target] | None = None) -> ModelOutput:
        """Predictions for a batch.

        Args:
            images: [B, 3, H, W] RGB in [0, 1]; H and W are multiples of 32, square or not.
            targets: One per image; only training makes use of them, for denoising queries.

        Raises:
            UsageError: H or W is not a multiple of 32.
        """
        check_input_size((images.shape[-2], images.shape[-1]))
        output: ModelOutput = self.decoder(self.encoder(self.backbone(images)), targets)
        return output

    def all_layers(self, images: Tensor) -> list[LayerOutput]:
        """What every decoder layer predicts, first to last; shapes as in ``forward``, errors as in the decoder's."""
        check_input_size((images.shape[-2], images.shape[-1]))
        return self.decoder.all_layers(self.encoder(self.backbone(images)))

    @property
    def reg_scale(self) -> float:
        """1/c of the paper's W(n)."""
        return float(self.decoder.reg_scale)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights, also those that differ from ours in form only.

        ``up`` and ``reg_scale`` are one parameter under two names each, of which a file may hold only one;
        ``reg_scale`` may be a fraction; counters of the norms may be missing; anchors made for another
        input size are a formula and not taken over, nor missed.
        """
        state = self._complete(state_dict)
        found = super().load_state_dict(state, strict, assign)
        self.decoder.decoder.update_bin_offsets()
        return found

    def _complete(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        state = dict(state_dict)
        own = self.state_dict()
        for name in ("up", "reg_scale"):
            outer, inner = f"decoder.{name}", f"decoder.decoder.{name}"
            value = state.get(outer, state.get(inner))
            if value is not None:
                state[outer] = state[inner] = value
        for key, value in own.items():
            if key.endswith("num_batches_tracked"):
                state.setdefault(key, value)
        for key in ("decoder.anchors", "decoder.valid_mask"):
            if key not in state or state[key].shape != own[key].shape:
                state[key] = own[key]
        scale = state.get("decoder.reg_scale")
        if scale is not None and not torch.equal(scale, scale.trunc()):
            self.decoder.reg_scale.data = self.decoder.reg_scale.data.float()
        return state

    def fused(self) -> "DFINE":
        """A copy for inference: norms and branches folded into convolutions, training-only heads gone.

        Same predictions up to rounding; it cannot be trained.
        """
        model = copy.deepcopy(self).eval().requires_grad_(False)
        fuse_model(model)
        model.decoder.drop_unused()
        return model


def check_input_size(size: Size) -> None:
    """Accept (height, width) in pixels that the levels divide evenly.

    Raises:
        UsageError: Naming the nearest legal sizes.
    """
    height, width = size
    if height > 0 and width > 0 and height % STRIDE == 0 and width % STRIDE == 0:
        return
    raise UsageError(
        f"input size {height}x{width} (height x width) is not a multiple of {STRIDE} in both directions",
        f"nearest legal sizes: height {_nearest(height)}, width {_nearest(width)}",
    )


def _nearest(length: int) -> str:
    """The legal lengths around ``length``, in words."""
    below = length // STRIDE * STRIDE
    legal = [below] if below == length else [below, below + STRIDE]
    return " or ".join(str(side) for side in legal if side > 0) or str(STRIDE)


def build_model(
    size: str | ModelSize,
    num_classes: int,
    *,
    input_size: Size = (640, 640),
    num_queries: int = 300,
    decoder_layers: int | None = None,
    points: tuple[int, ...] | None = None,
    bins: int = 32,
    weighting_a: float = 0.5,
    weighting_c: float | None = None,
    num_denoising: int = 100,
    label_noise: float = 0.5,
    box_noise: float = 1.0,
    position_embedding: Literal["aligned", "published"] = "aligned",
    activation: Literal["relu", "silu"] = "relu",
    frozen_backbone: bool = True,
) -> DFINE:
    """A freshly initialised D-FINE.

    Args:
        size: ``n``, ``s``, ``m``, ``l``, ``x``, or a row of one's own.
        num_classes: C.
        input_size: (height, width) in pixels whose constants are stored with the weights.
        num_queries: Q, the most objects an image can give.
        decoder_layers: L; None: the size's own.
        points: Sampling points per head on each level; None: the size's own.
        bins: R, intervals of the edge-offset distributions.
        weighting_a: The paper's a: half of the largest offset on the curve W(n).
        weighting_c: The paper's c, curvature of W(n); None: the size's own.
        num_denoising: Positive denoising queries per image aimed at; 0 for none.
        label_noise: Label noise ratio of denoising queries; half of it is the probability of a change.
        box_noise: Box noise scale of denoising queries.
        position_embedding: Position embedding on rectangular maps; both are the same on square ones.
        activation: Between the linear layers of the decoder: ReLU in D-FINE, SiLU in DEIM.
        frozen_backbone: Whether the sizes that are published so keep stem and batch norms of the backbone as they are,
            which without pretrained ones leaves next to no signal.

    Raises:
        UsageError: The size is unknown, the input size is not legal, or points do not fit the levels.
    """
    row = _size_row(size)
    check_input_size(input_size)
    points = row.points if points is None else points
    if len(points) != row.levels:
        raise UsageError(
            f"model.points has {len(points)} numbers, size {row.name} has {row.levels} levels",
            f"give one number per level, such as {list(row.points)}",
        )
    return DFINE(
        backbone=HGNetV2(
            row.backbone,
            return_stages=row.return_stages,
            learnable_affine=row.learnable_affine,
            freeze_stem=row.freeze_stem and frozen_backbone,
            freeze_norm=row.freeze_norm and frozen_backbone,
        ),
        encoder=HybridEncoder(
            row.in_channels,
            hidden=row.hidden,
            feedforward=row.feedforward,
            expansion=row.expansion,
            depth=row.depth,
            position_embedding=position_embedding,
        ),
        decoder=Decoder(
            num_classes=num_classes,
            feature_width=row.hidden,
            width=row.decoder_hidden,
            feedforward=row.decoder_feedforward,
            strides=row.strides,
            points=points,
            num_layers=decoder_layers or row.decoder_layers,
            input_size=input_size,
            num_queries=num_queries,
            bins=bins,
            up=weighting_a,
            reg_scale=row.reg_scale if weighting_c is None else _inverse(weighting_c),
            num_denoising=num_denoising,
            label_noise=label_noise,
            box_noise=box_noise,
            activation=activation,
        ),
        size=row.name,
        num_classes=num_classes,
        input_size=input_size,
    )


def _size_row(size: str | ModelSize) -> ModelSize:
    if isinstance(size, ModelSize):
        return size
    if size not in SIZES:
        raise UsageError(f"unknown model size {size!r}", f"choose one of {', '.join(SIZES)}")
    return SIZES[size]


def _inverse(curvature: float) -> float:
    """1 / c, an int where it is one, as published weights store it."""
    scale = 1 / curvature
    return round(scale) if abs(scale - round(scale)) < 1e-9 else scale
