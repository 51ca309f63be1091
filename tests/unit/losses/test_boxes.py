import torch

from dfine_cli.losses.boxes import generalized_iou, l1
from dfine_cli.losses.heads import BoxPairs


def pairs_of(boxes, targets, norm=1.0):
    boxes, targets = torch.tensor(boxes, requires_grad=True), torch.tensor(targets)
    return BoxPairs(torch.arange(len(targets)), boxes, targets, torch.zeros(boxes.shape[:2]), norm)


def test_l1_sums_coordinates_and_pairs():
    pairs = pairs_of(
        [[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]], [[0.4, 0.5, 0.2, 0.3], [0.1, 0.1, 0.1, 0.1]]],
        [[0.5, 0.5, 0.2, 0.2], [0.2, 0.1, 0.1, 0.1]],
        norm=2.0,
    )
    torch.testing.assert_close(l1(pairs), torch.tensor([0.05, 0.15]))


def test_generalized_iou_of_known_boxes():
    boxes = [[[0.5, 0.5, 0.2, 0.2], [0.25, 0.5, 0.5, 1.0], [0.1, 0.1, 0.2, 0.2]]]
    targets = [[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 1.0, 1.0], [0.9, 0.1, 0.2, 0.2]]
    # equal: 0; half: 1 - 0.5; apart: hull 0.2, union 0.08 -> 1 + 0.12 / 0.2
    torch.testing.assert_close(generalized_iou(pairs_of(boxes, targets)), torch.tensor([0 + 0.5 + 1.6]))


def test_degenerate_boxes_are_finite():
    points = [[[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, -0.1, -0.1], [0.0, 0.0, 0.0, 0.0], [1.2, -0.2, 0.3, 0.3]]]
    pairs = pairs_of(
        points, [[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.5, 0.5, 1.0, 1.0]]
    )
    total = (l1(pairs) + generalized_iou(pairs)).sum()
    total.backward()
    assert total.isfinite()
    assert pairs.boxes_cxcywh.grad.isfinite().all()


def test_no_pairs_give_zero_and_zero_gradients():
    boxes = torch.empty(3, 0, 4, requires_grad=True)
    pairs = BoxPairs(torch.empty(0, dtype=torch.int64), boxes, torch.empty(0, 4), torch.empty(3, 0), 1.0)
    total = l1(pairs) + generalized_iou(pairs)
    assert total.tolist() == [0.0, 0.0, 0.0]
    total.sum().backward()
    assert boxes.grad.shape == boxes.shape
