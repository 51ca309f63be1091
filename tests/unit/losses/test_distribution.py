import math

import pytest
import torch

from dfine_cli.losses.distribution import (
    decoupled_distillation,
    distillation_shares,
    fine_grained_localization,
    target_bins,
)
from dfine_cli.losses.heads import BoxPairs
from dfine_cli.model.fdr import boxes_to_distances, distances_to_boxes, project_to_bins, weighting

LAYERS, ROWS, BINS, HEADS = 3, 6, 33, 5
ROWS_MATCHED = [1, 4, 5]


@pytest.fixture
def corners():
    torch.manual_seed(1)
    return tuple(torch.randn(ROWS, 4, BINS, dtype=torch.float64, requires_grad=True) for _ in range(LAYERS))


@pytest.fixture
def pairs():
    torch.manual_seed(2)
    boxes = torch.rand(HEADS, 3, 4, dtype=torch.float64) * 0.3 + 0.2
    targets = torch.rand(3, 4, dtype=torch.float64) * 0.3 + 0.2
    ious = torch.rand(HEADS, 3, dtype=torch.float64)
    return BoxPairs(torch.tensor(ROWS_MATCHED), boxes, targets, ious, 2.0)


@pytest.fixture
def references():
    torch.manual_seed(3)
    return torch.rand(ROWS, 4, dtype=torch.float64) * 0.3 + 0.2


def weights(scale=4.0):
    return weighting(32, 0.5, scale).double()


def projected(value):
    """Left bin and shares of one offset (s = 4), as the criterion uses them."""
    left, left_share, right_share = project_to_bins(torch.tensor([value], dtype=torch.float64), weights())
    return left.item(), left_share.item(), right_share.item()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-5.0, (0, 1, 0)),  # below all bins
        (-3.0, (0, 0.5, 0.5)),
        (0.0, (16, 1, 0)),  # exactly a bin
        (0.05, (16, 0.3420153, 0.6579847)),
        (1.99, (30, 0.0471945, 0.9528055)),
        (3.9, (31, 0.05, 0.95)),
        (4.0, (31, 0, 1)),  # the last bin
        (1e9, (31, 0, 1)),
        (math.nan, (0, 1, 0)),
    ],
)
def test_recorded_bins(value, expected):
    # recorded with seven digits; the float32 bins differ from the exact ones by 1e-6
    assert projected(value) == pytest.approx(expected, abs=2e-5)


def test_targets_are_the_distances_of_the_matched_references(references, pairs):
    found = target_bins(references, pairs, weights(), 4.0)
    x1y1 = pairs.targets_cxcywh[:, :2] - pairs.targets_cxcywh[:, 2:] / 2
    x2y2 = pairs.targets_cxcywh[:, :2] + pairs.targets_cxcywh[:, 2:] / 2
    distances = boxes_to_distances(references[ROWS_MATCHED], torch.cat((x1y1, x2y2), 1), 4.0)
    left, left_share, right_share = project_to_bins(distances, weights())
    assert found.bins.shape == found.shares.shape == (3, 4, 2)
    assert (found.bins[..., 0] == left).all()
    assert (found.bins[..., 1] == left + 1).all()
    torch.testing.assert_close(found.shares, torch.stack((left_share, right_share), -1))
    # distances inside the bins decode to the object again
    inside = (distances.abs() < 4).all(1)
    assert inside.any()
    decoded = distances_to_boxes(references[ROWS_MATCHED], distances, 4.0)
    torch.testing.assert_close(decoded[inside], pairs.targets_cxcywh[inside])


def test_fgl_equals_the_loops(corners, references, pairs):
    bins = target_bins(references, pairs, weights(), 4.0)
    expected = []
    for layer, logits in enumerate(corners):
        total = 0.0
        for k, row in enumerate(ROWS_MATCHED):
            for edge in range(4):
                log_p = logits[row, edge].log_softmax(0)
                left = bins.bins[k, edge, 0]
                cross_entropy = (
                    -bins.shares[k, edge, 0] * log_p[left] - bins.shares[k, edge, 1] * log_p[left + 1]
                )
                total += pairs.ious[layer, k] * cross_entropy
        expected.append(total / pairs.norm)
    torch.testing.assert_close(fine_grained_localization(corners, bins, pairs), torch.stack(expected))


def ddf_by_loops(corners, logits, pairs, counts, temperature):
    """DDF as the specification words it, with counts of matched and unmatched rows."""
    teacher = (corners[-1] / temperature).softmax(-1).detach()
    confidence = logits.flatten(0, 1).sigmoid().max(-1).values
    losses = []
    for layer, student in enumerate(corners[:-1]):
        sides = {True: [], False: []}
        for row in range(ROWS):
            matched = row in ROWS_MATCHED
            weight = pairs.ious[layer, ROWS_MATCHED.index(row)] if matched else confidence[row]
            for edge in range(4):
                log_p = (student[row, edge] / temperature).log_softmax(0)
                t = teacher[row, edge]
                sides[matched].append(weight * temperature**2 * (t * (t.log() - log_p)).sum())
        means = [sum(rows) / len(rows) if rows else 0.0 for rows in (sides[True], sides[False])]
        roots = [math.sqrt(8 / 2 * count) for count in counts]
        losses.append((means[0] * roots[0] + means[1] * roots[1]) / sum(roots))
    return torch.stack(losses)


@pytest.mark.parametrize("temperature", [5.0, 2.0])
@pytest.mark.parametrize("counts", [(3, 3), (40, 560)], ids=["own counts", "counts of the matching queries"])
def test_ddf_equals_the_loops(corners, pairs, temperature, counts):
    torch.manual_seed(4)
    logits = torch.randn(2, 3, 7, dtype=torch.float64)
    expected = ddf_by_loops(corners, logits, pairs, counts, temperature)
    expected.sum().backward()
    gradients = [layer.grad.clone() for layer in corners[:-1]]
    for layer in corners:
        layer.grad = None
    shares = distillation_shares(counts[0], sum(counts))
    found = decoupled_distillation(corners, logits, pairs, shares, temperature)
    found.sum().backward()
    torch.testing.assert_close(found, expected)
    for layer, gradient in zip(corners[:-1], gradients, strict=True):
        torch.testing.assert_close(layer.grad, gradient)
    assert corners[-1].grad is None  # the teacher does not learn


def test_ddf_of_equal_layers_is_exactly_zero(corners, pairs):
    same = (corners[0].float(),) * 3
    losses = decoupled_distillation(
        same, torch.randn(2, 3, 7), pairs._replace(ious=pairs.ious.float()), (0.3, 0.7), 5.0
    )
    assert losses.tolist() == [0.0, 0.0]


def test_ddf_of_a_single_layer_is_empty(corners, pairs):
    assert decoupled_distillation(corners[:1], torch.randn(2, 3, 7), pairs, (0.3, 0.7), 5.0).shape == (0,)


@pytest.mark.parametrize(
    ("matched", "queries", "expected"),
    [(0, 600, (0, 1)), (600, 600, (1, 0)), (100, 1000, (0.25, 0.75)), (0, 0, (0, 0))],
)
def test_shares_follow_the_square_roots(matched, queries, expected):
    assert distillation_shares(matched, queries) == pytest.approx(expected)
