"""Fine-grained distribution refinement (D-FINE, arXiv 2410.13842, section 4.1), as functions.

Every edge of a box is a distribution over R + 1 bins. Bin n stands for the offset ``W(n)``, and the
expected offset moves the edge away from a reference box. Offsets and W(n) carry a factor
``reg_scale`` = 1/c throughout: ``W`` here is ``reg_scale`` times the paper's W(n), which the division
by ``reg_scale`` in ``distances_to_boxes`` takes out again. Edges are ordered left, top, right, bottom.
"""

import torch
from torch import Tensor

from dfine_cli.boxes import xyxy_to_cxcywh


def weighting(reg_max: int, up: float, reg_scale: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Offsets W(n) of the bins n = 0..R (equation 3), [R + 1] ascending.

    Fine steps around 0 that grow geometrically to ``up * reg_scale``; the two outermost bins are
    twice as far out. Computed in double precision, so that training and export share every digit.

    Args:
        reg_max: R, the even number of intervals.
        up: The paper's a.
        reg_scale: The inverse of the paper's c.
        dtype: Of the result.
    """
    reach = abs(up) * abs(reg_scale)
    steps = torch.arange(-(reg_max // 2), reg_max // 2 + 1, dtype=torch.float64)
    growth = (reach + 1) ** (2 / (reg_max - 2))
    offsets = steps.sign() * (torch.pow(growth, steps.abs()) - 1)
    offsets[0], offsets[-1] = -2 * reach, 2 * reach
    return offsets.to(dtype)


def bin_probabilities(corners: Tensor, bins: int) -> Tensor:
    """Probabilities [..., 4, bins] of edge-offset logits [..., 4 * bins]."""
    return corners.reshape(*corners.shape[:-1], 4, bins).softmax(-1)


def expectation(probabilities: Tensor, weights: Tensor) -> Tensor:
    """Expected offsets [..., 4] of probabilities [..., 4, R + 1] over bins at ``weights`` [R + 1]."""
    # A product and a sum, because autocast would take a matrix product to half precision.
    return (probabilities * weights.to(probabilities.dtype)).sum(-1)


def integrate(corners: Tensor, weights: Tensor) -> Tensor:
    """Expected offsets [..., 4] of edge-offset logits [..., 4 * (R + 1)] over bins at ``weights`` [R + 1]."""
    return expectation(bin_probabilities(corners, len(weights)), weights)


def edge_spread(
    corners: Tensor, weights: Tensor, references_cxcywh: Tensor, reg_scale: float | Tensor
) -> Tensor:
    """How far the distributions of a box leave its edges open: their standard deviations, weighted by W(n).

    Args:
        corners: [..., 4 * (R + 1)] edge-offset logits.
        weights: [R + 1] offsets of the bins.
        references_cxcywh: [..., 4] boxes that the offsets are measured from.
        reg_scale: The inverse of the paper's c.

    Returns:
        [..., 4] for the edges left, top, right, bottom, in the unit of the references: fractions of the image.
    """
    probabilities = bin_probabilities(corners, len(weights))
    offsets = weights.to(probabilities.dtype)
    deviations = offsets - expectation(probabilities, offsets)[..., None]
    size = references_cxcywh[..., 2:].abs() / reg_scale
    return (probabilities * deviations.square()).sum(-1).sqrt() * torch.cat((size, size), -1)


def distances_to_boxes(references_cxcywh: Tensor, distances: Tensor, reg_scale: float | Tensor) -> Tensor:
    """Boxes [..., 4] cxcywh whose edges are ``distances`` [..., 4] off those of the references (equation 2).

    A distance of 0 keeps the edge; ``reg_scale / 2`` moves it outwards by half the reference's size.
    The result may have a negative size or leave the image.
    """
    centre, size = references_cxcywh[..., :2], references_cxcywh[..., 2:]
    reach = 0.5 * reg_scale + distances
    unit = size / reg_scale
    corners_xyxy = torch.cat((centre - reach[..., :2] * unit, centre + reach[..., 2:] * unit), -1)
    return xyxy_to_cxcywh(corners_xyxy)


def boxes_to_distances(references_cxcywh: Tensor, boxes_xyxy: Tensor, reg_scale: float | Tensor) -> Tensor:
    """Distances [..., 4] that turn the references into ``boxes_xyxy``; undoes ``distances_to_boxes``."""
    centre, size = references_cxcywh[..., :2], references_cxcywh[..., 2:]
    unit = size / reg_scale + 1e-16
    low = (centre - boxes_xyxy[..., :2]) / unit
    high = (boxes_xyxy[..., 2:] - centre) / unit
    return torch.cat((low, high), -1) - 0.5 * reg_scale


def project_to_bins(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left bin and the shares of the left and the right bin whose mean offset is each value.

    Values outside the bins count as the outermost one, NaN as the first.

    Args:
        values: Offsets of any shape.
        weights: Offsets of the bins, [R + 1] ascending.

    Returns:
        Index of the left bin, int64 in 0..R-1; share of that bin; share of the next one. Shapes as ``values``.
    """
    weights = weights.to(values.dtype)
    values = values.nan_to_num(nan=-torch.inf).clamp(weights[0], weights[-1]).contiguous()
    left = (torch.searchsorted(weights, values, right=True) - 1).clamp(max=len(weights) - 2)
    below, above = values - weights[left], weights[left + 1] - values
    right_share = below / (below + above)
    return left, 1 - right_share, right_share
