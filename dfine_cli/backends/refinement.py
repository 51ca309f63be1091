"""How the decoder arrived at its boxes: the edge distributions of every layer for some detections of one image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfine_cli.backends.torch_backend import TorchDetector
from dfine_cli.boxes import cxcywh_to_xyxy
from dfine_cli.model.fdr import bin_probabilities
from dfine_cli.model.postprocess import best_pairs
from dfine_cli.types import Size


class Refinement(NamedTuple):
    """One detection through the L decoder layers; edges are left, top, right, bottom."""

    label: int
    """Class index."""
    score: float
    initial_xyxy: NDArray[np.float32]
    """[4] box that the offsets are measured from, in pixels of the original."""
    boxes_xyxy: NDArray[np.float32]
    """[L, 4] box after each layer."""
    probabilities: NDArray[np.float32]
    """[L, 4, R + 1] of each edge over the bins."""
    shifts: NDArray[np.float32]
    """[4, R + 1] pixels by which a bin moves its edge outwards: W(n) at the size of the initial box."""
    spread: NDArray[np.float32]
    """[4] pixels by which the last layer leaves the edges open, as in ``Detections.spread``."""


@torch.no_grad()
def trace_refinement(
    detector: TorchDetector, pixels: NDArray[np.uint8], size: Size, count: int
) -> list[Refinement]:
    """The ``count`` best detections of an image with everything that led to them, best first.

    Args:
        detector: A detector in PyTorch, whose heads are all there.
        pixels: [3, H, W] RGB, as ``data.preprocess.resize`` makes them.
        size: (height, width) of the original image in pixels.
        count: At most this many; a query can appear with several classes.
    """
    batch = torch.from_numpy(pixels[None]).to(detector.device).float().div_(255)
    layers = detector.model.all_layers(batch)
    stack = detector.model.decoder.decoder
    height, width = size
    scale = torch.tensor([width, height, width, height], device=detector.device)
    initial = layers[-1].references
    assert initial is not None
    offsets = stack.bin_offsets / detector.model.reg_scale
    spread = detector.model.decoder.edge_spread(layers[-1])[0]
    best = (column[0].tolist() for column in best_pairs(layers[-1].logits, count))
    made = []
    for query, label, score in zip(*best, strict=True):
        boxes = torch.stack([layer.boxes[0, query] for layer in layers])
        corners = torch.stack([_corners(layer.corners)[0, query] for layer in layers])
        sides = (initial[0, query, 2:].tile(2) * scale)[:, None]
        made.append(
            Refinement(
                label=label,
                score=score,
                initial_xyxy=_numbers(cxcywh_to_xyxy(initial[0, query]) * scale),
                boxes_xyxy=_numbers(cxcywh_to_xyxy(boxes) * scale),
                probabilities=_numbers(bin_probabilities(corners, len(offsets))),
                shifts=_numbers(offsets * sides),
                spread=_numbers(spread[query] * scale),
            )
        )
    return made


def _corners(corners: Tensor | None) -> Tensor:
    assert corners is not None
    return corners


def _numbers(values: Tensor) -> NDArray[np.float32]:
    return np.asarray(values.float().cpu().numpy(), np.float32)
