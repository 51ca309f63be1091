"""The values that cross boundaries between packages.

Symbols in shapes, here and in every docstring: B images in a batch, Q queries, C classes, T objects
in an image, N objects in a batch, K matched pairs, L decoder layers, P points, R ``reg_max`` (bins - 1),
H and W height and width. Boxes carry their format in the name or the docstring: cxcywh or xyxy, as
fractions of the image or in pixels. Class labels are contiguous indices 0..C-1 everywhere; only
``data.coco`` and ``evaluation.truth`` know category ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # values only pass through here: a backend without torch must not load it
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class Sample(NamedTuple):
    """One image with its objects, before any transform."""

    image: NDArray[np.uint8]
    """[H, W, 3] RGB."""
    boxes: NDArray[np.float32]
    """[T, 4] xyxy in pixels of ``image``, inside it, x1 < x2 and y1 < y2."""
    labels: NDArray[np.int64]
    """[T] class index."""
    image_id: int
    """The id in the annotation file."""


class Samples(Protocol):
    """Where samples come from."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int, /) -> Sample:
        """One sample."""


class Target(NamedTuple):
    """What one image of a batch contains."""

    labels: Tensor
    """[T] int64 class index."""
    boxes: Tensor
    """[T, 4] cxcywh, fractions of the network input."""
    image_id: int
    original_size: tuple[int, int]
    """(height, width) of the file in pixels."""


class Batch(NamedTuple):
    """What the loop feeds to the model."""

    images: Tensor
    """[B, 3, H, W] RGB: uint8 until it is on the device of the model, there float32 in [0, 1]; D-FINE does not
    normalise further."""
    targets: list[Target]


class Matches(NamedTuple):
    """Pairs of a query and an object, over a whole batch, sorted by (image, query).

    Objects are counted over the batch: object ``t`` is row ``t`` of all targets concatenated in order.
    """

    images: Tensor
    """[K] int64, image of the pair."""
    queries: Tensor
    """[K] int64, query of that image."""
    objects: Tensor
    """[K] int64, row in the concatenated targets."""


class LayerOutput(NamedTuple):
    """Predictions of one layer."""

    logits: Tensor
    """[B, Q, C] class logits."""
    boxes: Tensor
    """[B, Q, 4] cxcywh, fractions; FDR may leave [0, 1]."""
    corners: Tensor | None = None
    """[B, Q, 4 * (R + 1)] edge-offset logits, edges left, top, right, bottom; None without FDR."""
    references: Tensor | None = None
    """[B, Q, 4] cxcywh boxes the offsets are measured from."""


class DenoisingOutput(NamedTuple):
    """Predictions for the contrastive denoising queries (training only)."""

    layers: tuple[LayerOutput, ...]
    """All L decoder layers, first to last."""
    pre: LayerOutput
    """The plain box head of the first layer."""
    positives: Matches
    """Each positive denoising query with the object it was made from."""
    groups: int
    """Number of groups; every object is present once per group."""


class EncoderFeatures(NamedTuple):
    """Maps for objectives that need more than predictions."""

    levels: tuple[Tensor, ...]
    """Fused levels, fine to coarse, each [B, h, H_l, W_l]."""
    aifi: Tensor
    """Output of the attention on the coarsest level, [B, h, H_l, W_l]."""


class ModelOutput(NamedTuple):
    """What the model says about a batch. In eval mode only ``final`` and ``features`` are set."""

    final: LayerOutput
    features: EncoderFeatures
    aux: tuple[LayerOutput, ...] = ()
    """Decoder layers before the last."""
    pre: LayerOutput | None = None
    """Plain box head of the first layer."""
    encoder: tuple[LayerOutput, ...] = ()
    """Top-k proposals of the encoder."""
    denoising: DenoisingOutput | None = None
    """None without denoising, or when no image of the batch has an object."""


class Detections(NamedTuple):
    """Detections of one image, best first; NumPy, so that every backend can give them without torch."""

    boxes: NDArray[np.float32]
    """[N, 4] xyxy in pixels of the original image, not clipped."""
    scores: NDArray[np.float32]
    """[N] in [0, 1], descending."""
    labels: NDArray[np.int64]
    """[N] class index."""
    spread: NDArray[np.float32] | None = None
    """[N, 4] standard deviation of each edge (left, top, right, bottom) in pixels of the original image, from the
    distributions that the box was made of; None where a backend does not carry them."""


JsonDict = dict[str, Any]
Size = tuple[int, int]
"""(height, width) in pixels."""


def total_objects(targets: Sequence[Target]) -> int:
    """Number of objects in a batch, N."""
    return sum(len(t.labels) for t in targets)
