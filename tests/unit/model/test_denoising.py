"""Denoising queries: layout, noise, mask, and the empty cases."""

import pytest
import torch
from torch import nn

from dfine_cli.boxes import cxcywh_to_xyxy
from dfine_cli.model.denoising import (
    add_box_noise,
    add_label_noise,
    attention_mask,
    make_denoising_queries,
)
from dfine_cli.types import Target

CLASSES = 5


def _targets(*counts):
    torch.manual_seed(1)
    return [
        Target(torch.randint(0, CLASSES, (n,)), torch.rand(n, 4) * 0.3 + 0.2, image_id, (10, 10))
        for image_id, n in enumerate(counts)
    ]


def _embedding():
    return nn.Embedding(CLASSES + 1, 8, padding_idx=CLASSES)


def _make(targets, num_denoising=100, label_noise=0.0, box_noise=0.0):
    return make_denoising_queries(targets, _embedding(), num_denoising, label_noise, box_noise, torch.float32)


@pytest.mark.parametrize(
    ("counts", "groups", "queries"),
    [
        ((3, 5), 20, 200),
        ((3, 1), 33, 198),
        ((1,), 100, 200),
        ((120, 0), 1, 240),  # more objects than denoising queries: one group nevertheless
    ],
)
def test_sizes(counts, groups, queries):
    found = _make(_targets(*counts))
    assert found.groups == groups
    assert found.content.shape == (len(counts), queries, 8)
    assert found.box_logits.shape == (len(counts), queries, 4)
    assert len(found.positives.queries) == sum(counts) * groups


def test_positives_are_listed_group_by_group():
    found = _make(_targets(3, 1)).positives
    first, second = (found.queries[found.images == image].tolist() for image in range(2))
    assert first[:9] == [0, 1, 2, 6, 7, 8, 12, 13, 14]
    assert second[:4] == [0, 6, 12, 18]
    assert found.objects[found.images == 0].tolist() == [0, 1, 2] * 33
    assert found.objects[found.images == 1].tolist() == [3] * 33
    assert found.images.tolist() == sorted(found.images.tolist())


def test_without_noise_every_query_is_its_object():
    targets = _targets(2, 0, 4)
    found = _make(targets)
    boxes = torch.cat([target.boxes for target in targets])
    restored = found.box_logits.sigmoid()
    images, queries, objects = found.positives
    torch.testing.assert_close(restored[images, queries], boxes[objects], rtol=0, atol=1e-6)
    torch.testing.assert_close(restored[images, queries + 4], boxes[objects], rtol=0, atol=1e-6)


def test_padding_has_no_content_and_no_box():
    found = _make(_targets(1, 3), label_noise=1.0, box_noise=1.0)
    padding = torch.tensor([False, True, True]).repeat(2 * found.groups)
    assert (found.content[0, padding] == 0).all()
    torch.testing.assert_close(found.box_logits[0, padding].sigmoid(), torch.tensor(1e-5).expand(132, 4))


@pytest.mark.parametrize(("targets", "num_denoising"), [([], 100), (_targets(0, 0), 100), (_targets(2), 0)])
def test_nothing_to_denoise(targets, num_denoising):
    assert _make(targets, num_denoising) is None


def test_the_same_seed_gives_the_same_queries():
    targets, found = _targets(3, 2), []
    embedding = _embedding()
    for _ in range(2):
        torch.manual_seed(7)
        found.append(make_denoising_queries(targets, embedding, 10, 0.5, 1.0, torch.float32))
    torch.testing.assert_close(found[0].content, found[1].content, rtol=0, atol=0)
    torch.testing.assert_close(found[0].box_logits, found[1].box_logits, rtol=0, atol=0)


def test_draws_are_made_in_the_published_order():
    labels = torch.randint(0, CLASSES, (2, 6))
    boxes_cxcywh = torch.rand(2, 6, 4) * 0.3 + 0.3
    negative = torch.tensor([0, 0, 0, 1, 1, 1])[:, None]
    torch.manual_seed(3)
    noisy_labels = add_label_noise(labels, CLASSES, 0.5)
    noisy_boxes = add_box_noise(boxes_cxcywh, negative, 1.0)
    torch.manual_seed(3)
    redrawn, random = torch.rand(2, 6) < 0.25, torch.randint(0, CLASSES, (2, 6))
    sign, magnitude = torch.randint(0, 2, (2, 6, 4)) * 2 - 1, torch.rand(2, 6, 4) + negative
    assert noisy_labels.equal(torch.where(redrawn, random, labels))
    corners = cxcywh_to_xyxy(boxes_cxcywh) + sign * magnitude * boxes_cxcywh[..., [2, 3, 2, 3]] / 2
    corners = corners.clamp(0, 1)
    expected = torch.cat(
        ((corners[..., :2] + corners[..., 2:]) / 2, (corners[..., 2:] - corners[..., :2]).abs()), -1
    )
    torch.testing.assert_close(noisy_boxes, expected)


def test_a_quarter_of_the_labels_is_redrawn():
    torch.manual_seed(0)
    labels = torch.zeros(1, 20_000, dtype=torch.int64)
    changed = (add_label_noise(labels, 1000, 0.5) != 0).float().mean().item()
    assert changed == pytest.approx(0.25, abs=0.02)  # six standard deviations
    assert add_label_noise(labels + 1000, 1000, 1.0).eq(1000).all()  # padding stays


# Above a reach of one half size the edges may change places, which hides how far they moved.
@pytest.mark.parametrize(("negative", "scale"), [(0, 0.4), (0, 1.0), (1, 0.4)])
def test_negatives_move_further_than_positives(negative, scale):
    torch.manual_seed(0)
    boxes_cxcywh = torch.tensor([0.5, 0.5, 0.1, 0.2]).expand(1, 500, 4)
    half = boxes_cxcywh[..., [2, 3, 2, 3]] / 2
    noisy = add_box_noise(boxes_cxcywh, torch.tensor(negative), scale)
    moved = (cxcywh_to_xyxy(noisy) - cxcywh_to_xyxy(boxes_cxcywh)).abs() / half
    assert negative * scale - 1e-5 <= moved.min() < (negative + 0.1) * scale
    assert (negative + 0.9) * scale < moved.max() <= (negative + 1) * scale + 1e-5


def test_noisy_boxes_stay_inside_the_image():
    torch.manual_seed(0)
    boxes_cxcywh = torch.tensor([[0.02, 0.98, 0.04, 0.04], [0.5, 0.5, 1.0, 1.0]]).repeat(200, 1)
    noisy_xyxy = cxcywh_to_xyxy(add_box_noise(boxes_cxcywh, torch.tensor(1), 1.0))
    assert noisy_xyxy.min() >= -1e-6
    assert noisy_xyxy.max() <= 1 + 1e-6
    assert (noisy_xyxy[:, 2:] >= noisy_xyxy[:, :2]).all()


def test_mask_separates_the_groups():
    forbidden = attention_mask(12, 3, 5, torch.device("cpu"))
    assert forbidden.shape == (17, 17)
    group = torch.tensor([0] * 4 + [1] * 4 + [2] * 4 + [-1] * 5)
    for row in range(17):
        for column in range(17):
            hidden = column < 12 and group[row] != group[column]
            assert forbidden[row, column] == hidden
