"""W(n), boxes from edge offsets and back, projection of offsets to bins."""

import math

import pytest
import torch

from dfine_cli.boxes import cxcywh_to_xyxy
from dfine_cli.model.fdr import (
    boxes_to_distances,
    distances_to_boxes,
    edge_spread,
    expectation,
    integrate,
    project_to_bins,
    weighting,
)

UPPER_HALF = {  # bins 17 to 32
    4: [
        0.0759896, 0.1577537, 0.2457309, 0.3403936, 0.4422496, 0.5518456, 0.6697697, 0.7966549,
        0.9331820, 1.0800838, 1.2381486, 1.4082247, 1.5912248, 1.7881310, 2.0, 4.0,
    ],
    8: [
        0.1132636, 0.2393558, 0.3797297, 0.5360028, 0.7099759, 0.9036539, 1.1192686, 1.3593045,
        1.6265278, 1.9240177, 2.2552024, 2.6238983, 3.0343540, 3.4912994, 4.0, 8.0,
    ],
}  # fmt: skip


@pytest.mark.parametrize("reg_scale", UPPER_HALF)
def test_weighting_has_the_documented_values(reg_scale):
    offsets = weighting(32, 0.5, reg_scale, torch.float64)
    expected = torch.tensor(UPPER_HALF[reg_scale], dtype=torch.float64)
    torch.testing.assert_close(offsets[17:], expected, rtol=0, atol=5e-8)
    assert offsets[16] == 0
    torch.testing.assert_close(offsets, -offsets.flip(0), rtol=0, atol=0)


@pytest.mark.parametrize("reg_scale", [4, 8, 3.5])
def test_weighting_is_the_paper_formula_times_the_scale(reg_scale):
    a, c, bins = 0.5, 1 / reg_scale, 32
    paper = [-2 * a]
    paper += [c - c * (a / c + 1) ** ((bins - 2 * n) / (bins - 2)) for n in range(1, bins // 2)]
    paper += [-c + c * (a / c + 1) ** ((2 * n - bins) / (bins - 2)) for n in range(bins // 2, bins)]
    paper += [2 * a]
    expected = torch.tensor(paper, dtype=torch.float64) * reg_scale
    torch.testing.assert_close(weighting(bins, a, reg_scale, torch.float64), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bins", [8, 16, 64])
def test_weighting_is_ascending_with_any_number_of_bins(bins):
    offsets = weighting(bins, 0.25, 4)
    assert len(offsets) == bins + 1
    assert offsets.dtype == torch.float32
    assert (offsets.diff() > 0).all()


@pytest.mark.parametrize(
    ("value", "left", "left_share", "right_share"),
    [
        (-5.0, 0, 1, 0),  # below all bins
        (-4.0, 0, 1, 0),
        (-3.0, 0, 0.5, 0.5),
        (0.0, 16, 1, 0),  # on a bin
        (0.05, 16, 0.3420153, 0.6579847),
        (1.99, 30, 0.0471945, 0.9528055),
        (3.9, 31, 0.05, 0.95),
        (4.0, 31, 0, 1),  # on the last bin
        (7.0, 31, 0, 1),  # above all bins
        (math.inf, 31, 0, 1),
        (-math.inf, 0, 1, 0),
        (math.nan, 0, 1, 0),
    ],
)
def test_projection_has_the_documented_values(value, left, left_share, right_share):
    found = project_to_bins(torch.tensor([value]), weighting(32, 0.5, 4))
    assert found[0].dtype == torch.int64
    assert found[0].item() == left
    # the documented values come from float32 bins, which are off by up to 1e-6 of a step of 0.2
    assert found[1].item() == pytest.approx(left_share, abs=1e-5)
    assert found[2].item() == pytest.approx(right_share, abs=1e-5)


def test_projection_keeps_the_value_inside_the_bins():
    offsets = weighting(32, 0.5, 4, torch.float64)
    values = torch.linspace(-4, 4, 101, dtype=torch.float64).reshape(101, 1).expand(-1, 3)
    left, left_share, right_share = project_to_bins(values, offsets)
    assert left.shape == values.shape
    torch.testing.assert_close(left_share * offsets[left] + right_share * offsets[left + 1], values)


def test_projection_of_nothing_is_nothing():
    assert [part.shape for part in project_to_bins(torch.empty(0, 4), weighting(32, 0.5, 4))] == [(0, 4)] * 3


def test_integral_of_a_certain_distribution_is_its_bin():
    offsets = weighting(32, 0.5, 4)
    corners = torch.full((2, 3, 4, 33), -100.0)
    bins = torch.randint(0, 33, (2, 3, 4))
    corners.scatter_(-1, bins[..., None], 100.0)
    torch.testing.assert_close(integrate(corners.flatten(-2), offsets), offsets[bins])


def test_integral_of_zero_logits_is_zero():
    torch.testing.assert_close(integrate(torch.zeros(1, 132), weighting(32, 0.5, 4)), torch.zeros(1, 4))


def test_expectation_keeps_full_precision_under_autocast():
    probabilities, offsets = torch.rand(5, 4, 33).softmax(-1), weighting(32, 0.5, 4)
    expected = expectation(probabilities, offsets)
    with torch.autocast("cpu", torch.bfloat16):
        found = expectation(probabilities, offsets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("reg_scale", [4, 8, torch.tensor([4])])
def test_boxes_and_distances_undo_each_other(reg_scale):
    references = torch.rand(2, 5, 4, dtype=torch.float64) * 0.5 + 0.1
    distances = torch.randn(2, 5, 4, dtype=torch.float64)
    boxes = distances_to_boxes(references, distances, reg_scale)
    # corners, because cxcywh_to_xyxy takes negative sizes for zero
    boxes_xyxy = torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), -1)
    torch.testing.assert_close(boxes_to_distances(references, boxes_xyxy, reg_scale), distances)


def test_zero_distances_leave_the_box():
    references = torch.tensor([[0.5, 0.4, 0.2, 0.1]])
    torch.testing.assert_close(distances_to_boxes(references, torch.zeros(1, 4), 4), references)
    torch.testing.assert_close(
        boxes_to_distances(references, cxcywh_to_xyxy(references), 4), torch.zeros(1, 4), rtol=0, atol=1e-6
    )


def test_edges_are_left_top_right_bottom():
    references = torch.tensor([0.5, 0.5, 0.4, 0.2]).expand(4, 4)
    boxes_xyxy = cxcywh_to_xyxy(distances_to_boxes(references, torch.eye(4), 4))
    moved = boxes_xyxy - cxcywh_to_xyxy(references)
    torch.testing.assert_close(moved, torch.diag(torch.tensor([-0.1, -0.05, 0.1, 0.05])), rtol=0, atol=1e-6)


def test_a_reference_without_size_gives_finite_targets_in_the_outer_bins():
    distances = boxes_to_distances(torch.tensor([0.5, 0.5, 0, 0]), torch.tensor([0.4, 0.4, 0.6, 0.6]), 4)
    left, left_share, right_share = project_to_bins(distances, weighting(32, 0.5, 4))
    assert left.tolist() == [31] * 4
    assert left_share.isfinite().all() and right_share.isfinite().all()


@pytest.mark.parametrize("reg_scale", [4, 8])
def test_the_spread_is_that_of_edges_drawn_from_the_distributions(reg_scale):
    torch.manual_seed(0)
    weights, references = weighting(16, 0.5, reg_scale), torch.tensor([0.5, 0.4, 0.3, 0.2])
    corners = 3 * torch.randn(4 * 17)
    drawn = torch.stack(
        [torch.multinomial(p, 40_000, replacement=True) for p in corners.view(4, 17).softmax(-1)], -1
    )
    edges = cxcywh_to_xyxy(distances_to_boxes(references, weights[drawn], reg_scale))
    spread = edge_spread(corners, weights, references, reg_scale)
    torch.testing.assert_close(spread, edges.std(0), rtol=0.02, atol=0)


def test_a_certain_distribution_has_no_spread_and_two_equal_bins_have_half_their_distance():
    weights = weighting(32, 0.5, 4)
    corners = torch.full((4, 33), -1e4)
    corners[0, 5] = 0
    corners[1:, [3, 9]] = 0
    spread = edge_spread(corners.flatten(), weights, torch.tensor([0.5, 0.5, 0.4, 0.2]), 4)
    half = (weights[9] - weights[3]) / 2
    torch.testing.assert_close(spread, torch.tensor([0, half * 0.05, half * 0.1, half * 0.05]))
