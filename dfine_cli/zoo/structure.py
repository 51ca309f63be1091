"""Whether weights fit a model: their keys and shapes against those of its size, told by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dfine_cli.errors import CheckError
from dfine_cli.model.dfine import build_model
from dfine_cli.model.hgnetv2 import VARIANTS, HGNetV2
from dfine_cli.model.sizes import SIZES, ModelSize
from dfine_cli.types import Size

Shapes = Mapping[str, tuple[int, ...]]

PARTS = ("backbone", "encoder", "decoder", "heads")
"""How a model is divided in tables. ``heads`` are what depends on the classes, or predicts boxes."""

BACKBONE_PREFIX = "backbone."

_HEADS = tuple(
    f"decoder.{name}."
    for name in (
        "enc_score_head",
        "dec_score_head",
        "enc_bbox_head",
        "pre_bbox_head",
        "dec_bbox_head",
        "denoising_class_embed",
    )
)
_CLASS_ROWS = ("decoder.enc_score_head.bias", "decoder.dec_score_head.")
LIKENESS = 0.5
"""Part of the entries of a size that a file must have to be taken for it."""


@dataclass(frozen=True)
class PartFit:
    """How one part of a model is served by a file."""

    part: str
    """A row of ``PARTS``."""
    fits: tuple[str, ...]
    """Keys that are there with the right shape."""
    missing: tuple[str, ...]
    """Keys of the model that are not in the file."""
    left_over: tuple[str, ...]
    """Keys of the file that the model does not have."""
    other_shape: tuple[str, ...]
    """Keys whose shape is another one."""


@dataclass(frozen=True)
class Fit:
    """How a model is served by a file, part by part."""

    parts: tuple[PartFit, ...]

    @property
    def complete(self) -> bool:
        """Whether all that the model needs is there; what is left over does no harm."""
        return not any(part.missing or part.other_shape for part in self.parts)

    @property
    def exact(self) -> bool:
        """Whether it is complete and nothing is left over."""
        return self.complete and not self.left_over

    @property
    def left_over(self) -> list[str]:
        """Keys of the file that the model does not have."""
        return [key for part in self.parts for key in part.left_over]

    def rows(self) -> list[tuple[str, int, int, int, int]]:
        """A row a part, as ``FIT_HEADER`` names the columns."""
        return [
            (p.part, len(p.fits), len(p.missing), len(p.left_over), len(p.other_shape)) for p in self.parts
        ]

    def faults(self) -> list[str]:
        """A sentence for every part that does not fit, with the first key of each kind."""
        return [
            f"{part.part}: {len(keys)} {kind}, such as {keys[0]}"
            for part in self.parts
            for kind, keys in (
                ("missing", part.missing),
                ("of another shape", part.other_shape),
                ("left over", part.left_over),
            )
            if keys
        ]


FIT_HEADER = ("part", "fits", "missing", "left over", "other shape")


def part_of(key: str) -> str:
    """The row of ``PARTS`` that a key of a state dict belongs to; ``decoder`` if it is none of a model."""
    if key.startswith(_HEADS):
        return "heads"
    first = key.split(".", 1)[0]
    return first if first in PARTS else "decoder"


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every entry."""
    return {key: tuple(value.shape) for key, value in state.items()}


def compare(found: Shapes, wanted: Shapes) -> Fit:
    """What of ``wanted`` a file serves.

    Passed over are the differences that loading evens out: counters of batch norms, anchors of another input
    size, and the second names of the two constants that have two.

    Args:
        found: Shapes in the file, with our key names.
        wanted: Shapes of the model.
    """
    fits, missing, left_over, other = [], [], [], []
    for key in dict.fromkeys((*wanted, *found)):
        if key not in found:
            if not _may_be_missing(key, found):
                missing.append(key)
        elif key not in wanted:
            if not key.endswith(".num_batches_tracked"):
                left_over.append(key)
        elif found[key] == wanted[key] or key in ("decoder.anchors", "decoder.valid_mask"):
            fits.append(key)
        else:
            other.append(key)
    return Fit(
        tuple(
            PartFit(part, *(_only(part, keys) for keys in (fits, missing, left_over, other)))
            for part in PARTS
        )
    )


def _only(part: str, keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(key for key in keys if part_of(key) == part)


_TWINS = {
    "decoder.up": "decoder.decoder.up",
    "decoder.reg_scale": "decoder.decoder.reg_scale",
}


def _may_be_missing(key: str, found: Shapes) -> bool:
    if key.endswith(".num_batches_tracked") or key in ("decoder.anchors", "decoder.valid_mask"):
        return True
    twins = {**_TWINS, **{inner: outer for outer, inner in _TWINS.items()}}
    return twins.get(key) in found


def model_shapes(
    size: str | ModelSize,
    num_classes: int,
    input_size: Size = (640, 640),
    knobs: Mapping[str, Any] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Shapes of a whole model, without making its weights.

    Args:
        size: Key of ``SIZES``, or a row of one's own.
        num_classes: C.
        input_size: (height, width) in pixels.
        knobs: Keyword arguments of ``build_model`` that are not the usual ones.
    """
    with torch.device("meta"):
        return shapes_of(build_model(size, num_classes, input_size=input_size, **(knobs or {})).state_dict())


@lru_cache
def backbone_shapes(variant: str, learnable_affine: bool) -> Shapes:
    """Shapes of a backbone of its own, with the prefix that it has in a model.

    Args:
        variant: Key of ``VARIANTS`` in lower case.
        learnable_affine: Whether it scales and shifts after every ReLU.
    """
    with torch.device("meta"):
        model = HGNetV2(
            variant.upper(),
            return_stages=(1, 2, 3),
            learnable_affine=learnable_affine,
            freeze_stem=False,
            freeze_norm=False,
        )
    return {f"{BACKBONE_PREFIX}{key}": shape for key, shape in shapes_of(model.state_dict()).items()}


def recognise_size(found: Shapes) -> str | None:
    """The size whose model is most like a file, by keys and shapes; None if it is like none of them."""
    return _most_like(found, {name: usual_shapes(name) for name in SIZES})


def recognise_backbone(found: Shapes) -> str | None:
    """The variant, in lower case, whose backbone is most like a file; None if it is like none of them."""
    affine = any(".lab." in key for key in found)
    return _most_like(found, {name.lower(): backbone_shapes(name.lower(), affine) for name in VARIANTS})


def _most_like(found: Shapes, candidates: Mapping[str, Shapes]) -> str | None:
    scores = {name: likeness(found, wanted) for name, wanted in candidates.items()}
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] >= LIKENESS else None


def likeness(found: Shapes, wanted: Shapes) -> float:
    """Part of ``wanted`` that is in ``found`` with the same shape, 0 to 1."""
    return sum(found.get(key) == shape for key, shape in wanted.items()) / len(wanted)


@lru_cache
def usual_shapes(size: str) -> Shapes:
    """Shapes of a whole model as published for COCO."""
    return model_shapes(size, 80)


def count_classes(found: Shapes) -> int | None:
    """C of a file, by the rows of most of its classification heads; None if it has none."""
    rows = [shape[0] for key, shape in found.items() if key.startswith(_CLASS_ROWS) and key.endswith(".bias")]
    return max(set(rows), key=rows.count) if rows else None


def require_complete(fit: Fit, what: str) -> None:
    """Accept weights that have all that a model needs.

    Args:
        fit: Of the weights.
        what: How to call them, such as their path.

    Raises:
        CheckError: Naming what is missing or of another shape, by part.
    """
    if not fit.complete:
        raise CheckError(
            f"{what} does not fit: {'; '.join(fit.faults())}",
            "`dfine zoo verify` shows a table by part; use another copy of the weights",
        )
