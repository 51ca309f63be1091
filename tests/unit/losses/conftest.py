"""Made-up outputs of a model, as the losses see them."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from dfine_cli.types import (
    DenoisingOutput,
    EncoderFeatures,
    LayerOutput,
    Matches,
    ModelOutput,
    Target,
)

BINS = 33
Case = tuple[ModelOutput, list[Target], list[Tensor]]


def make_targets(
    counts: Sequence[int], classes: int, dtype: torch.dtype, rng: torch.Generator
) -> list[Target]:
    targets = []
    for i, count in enumerate(counts):
        size, place = torch.rand(2, count, 2, generator=rng, dtype=torch.float64)
        size = size * 0.4 + 0.05
        boxes = torch.cat((size / 2 + place * (1 - size), size), 1)
        labels = torch.randint(classes, (count,), generator=rng)
        targets.append(Target(labels, boxes.to(dtype), i, (64, 64)))
    return targets


class _Maker:
    """Draws layers and remembers the leaf tensors."""

    def __init__(self, rng: torch.Generator, batch: int, classes: int, dtype: torch.dtype) -> None:
        self.rng, self.batch, self.classes, self.dtype = rng, batch, classes, dtype
        self.leaves: list[Tensor] = []

    def leaf(self, values: Tensor) -> Tensor:
        self.leaves.append(values.to(self.dtype).requires_grad_())
        return self.leaves[-1]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.rng, dtype=torch.float64)

    def boxes(self, queries: int) -> Tensor:
        boxes = self.normal(self.batch, queries, 4).sigmoid()
        boxes[..., 2:] *= 0.5
        return boxes

    def plain(self, queries: int) -> LayerOutput:
        logits = self.leaf(self.normal(self.batch, queries, self.classes) - 2)
        return LayerOutput(logits, self.leaf(self.boxes(queries)))

    def layer(self, queries: int, references: Tensor) -> LayerOutput:
        corners = self.leaf(self.normal(self.batch, queries, 4 * BINS))
        return LayerOutput(*self.plain(queries)[:2], corners, references)

    def layers(self, number: int, queries: int) -> tuple[LayerOutput, ...]:
        references = self.boxes(queries).to(self.dtype)
        return tuple(self.layer(queries, references) for _ in range(number))


def make_case(
    counts: Sequence[int],
    *,
    classes: int = 5,
    queries: int = 12,
    layers: int = 3,
    denoising: int = 0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Case:
    """Outputs, targets and the leaf tensors that get gradients.

    ``denoising`` is the number of groups; there are none where no image has an object.
    """
    rng = torch.Generator().manual_seed(seed)
    targets = make_targets(counts, classes, dtype, rng)
    maker = _Maker(rng, len(counts), classes, dtype)
    *aux, final = maker.layers(layers, queries)
    most = max(counts, default=0)
    noisy = None
    if denoising and most:
        slots = 2 * most * denoising
        noisy = DenoisingOutput(
            maker.layers(layers, slots), maker.plain(slots), positives_of(counts, denoising), denoising
        )
    outputs = ModelOutput(
        final,
        EncoderFeatures((), torch.empty(0)),
        tuple(aux),
        maker.plain(queries),
        (maker.plain(queries),),
        noisy,
    )
    return outputs, targets, maker.leaves


def positives_of(counts: Sequence[int], groups: int) -> Matches:
    """Positive ``g * n + j`` of an image is query ``2 * most * g + j`` and belongs to object j."""
    most, start = max(counts), 0
    pairs = []
    for image, count in enumerate(counts):
        pairs += [(image, 2 * most * g + j, start + j) for g in range(groups) for j in range(count)]
        start += count
    return Matches(*torch.tensor(pairs).T)


@pytest.fixture
def case() -> Callable[..., Case]:
    return make_case
