"""Sampling of feature maps: by definition, at the borders, and two implementations against each other."""

import pytest
import torch

from dfine_cli.model.deformable_attention import DeformableAttention, sample_gather, sample_grid

SAMPLERS = [sample_grid, sample_gather]


def _case(seed=0, batch=2, queries=7, heads=4, width=8, points=(3, 2), spread=0.6):
    torch.manual_seed(seed)
    levels = [torch.randn(batch, width, 5, 8), torch.randn(batch, width, 3, 4)]
    locations = 0.5 + spread * torch.randn(batch, queries, heads, sum(points), 2)
    weights = torch.randn(batch, queries, heads, sum(points)).softmax(-1)
    return levels, locations, weights, points


def _sample_by_definition(levels, locations, weights, points):
    batch, queries, heads, _, _ = locations.shape
    width = levels[0].shape[1] // heads
    output = torch.zeros(batch, queries, heads, width)
    owner = [level for level, count in enumerate(points) for _ in range(count)]
    for b, q, h, p in torch.cartesian_prod(*map(torch.arange, locations.shape[:4])).tolist():
        level = levels[owner[p]][b, h * width : (h + 1) * width]
        height, breadth = level.shape[1:]
        x, y = (locations[b, q, h, p] * torch.tensor([breadth, height]) - 0.5).tolist()
        for row in range(height):
            for column in range(breadth):
                share = max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
                output[b, q, h] += weights[b, q, h, p] * share * level[:, row, column]
    return output.flatten(2)


@pytest.mark.parametrize("sample", SAMPLERS)
def test_sampling_follows_the_definition(sample):
    case = _case(queries=3)
    torch.testing.assert_close(sample(*case), _sample_by_definition(*case), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spread", [0.05, 0.6, 50.0])  # inside, across the borders, mostly far outside
def test_both_samplers_and_their_gradients_agree(spread):
    results = []
    for sample in SAMPLERS:
        levels, locations, weights, points = _case(spread=spread)
        inputs = [tensor.requires_grad_() for tensor in (*levels, locations, weights)]
        output = sample(inputs[:2], inputs[2], inputs[3], points)
        output.square().sum().backward()
        results.append([output.detach(), *(tensor.grad for tensor in inputs)])
    for found, expected in zip(*results, strict=True):
        scale = expected.abs().max().clamp(min=1).item()  # float32 sums of gradients
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("sample", SAMPLERS)
@pytest.mark.parametrize("place", [0.0, 1.0, -3.0, 1e6])
def test_what_lies_outside_is_zero(sample, place):
    levels = [torch.ones(1, 2, 4, 4)]
    locations = torch.full((1, 1, 1, 1, 2), place)
    output = sample(levels, locations, torch.ones(1, 1, 1, 1), (1,))
    corner = 0.25 if place in (0.0, 1.0) else 0.0  # a quarter of the last cell is seen at a corner
    torch.testing.assert_close(output, torch.full((1, 1, 2), corner))


@pytest.mark.parametrize("sample", SAMPLERS)
def test_memory_layout_of_the_maps_does_not_matter(sample):
    levels, *rest = _case()
    expected = sample(levels, *rest)
    found = sample([level.contiguous(memory_format=torch.channels_last) for level in levels], *rest)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_offsets_start_in_eight_directions():
    bias = DeformableAttention(64, 8, (3, 6, 3)).sampling_offsets.bias.view(8, 12, 2)
    rank = torch.tensor([1, 2, 3, 1, 2, 3, 4, 5, 6, 1, 2, 3.0])
    for head, direction in {0: (1, 0), 1: (1, 1), 2: (0, 1), 3: (-1, 1), 4: (-1, 0), 7: (1, -1)}.items():
        expected = rank[:, None] * torch.tensor(direction, dtype=torch.float32)
        torch.testing.assert_close(bias[head], expected, rtol=0, atol=1e-5)


def test_untrained_attention_averages_points_around_the_box():
    attention = DeformableAttention(8, 8, (2,))
    level = torch.arange(100.0).view(1, 1, 10, 10).expand(1, 8, 10, 10)
    reference = torch.tensor([[[0.5, 0.5, 0.2, 0.4]]])
    seen = attention(torch.randn(1, 1, 8), reference, [level])
    # Cell (row, column) holds 10 row + column; the centre 0.5 is at 4.5. Head 0 looks right, 2 down: points at
    # a quarter and a half of half the box, 0.075 of the width or 0.15 of the height on average.
    assert seen[0, 0, 0].item() == pytest.approx(49.5 + 0.75, abs=1e-4)
    assert seen[0, 0, 2].item() == pytest.approx(49.5 + 15.0, abs=1e-4)
