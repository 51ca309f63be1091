import pytest
import torch

from dfine_cli.boxes import cxcywh_to_xyxy, giou, iou, xywh_to_xyxy, xyxy_to_cxcywh, xyxy_to_xywh


def test_conversions_go_there_and_back() -> None:
    boxes_xyxy = torch.tensor([[1.0, 2, 5, 10], [0, 0, 0, 0]])
    assert xyxy_to_cxcywh(boxes_xyxy).tolist() == [[3, 6, 4, 8], [0, 0, 0, 0]]
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes_xyxy)), boxes_xyxy)
    assert xyxy_to_xywh(boxes_xyxy)[0].tolist() == [1, 2, 4, 8]
    torch.testing.assert_close(xywh_to_xyxy(xyxy_to_xywh(boxes_xyxy)), boxes_xyxy)


def test_a_negative_size_counts_as_zero() -> None:
    assert cxcywh_to_xyxy(torch.tensor([3.0, 3, -2, 4])).tolist() == [3, 1, 3, 5]


@pytest.mark.parametrize(
    ("a", "b", "expected_iou", "expected_giou"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1, 1),
        ([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3, 1 / 3),
        ([0, 0, 1, 1], [2, 0, 3, 1], 0, -1 / 3),  # a third of the hull is empty
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),
        ([1, 1, 1, 1], [1, 1, 1, 1], 0, 0),  # two points: defined, not NaN
    ],
)
def test_iou_and_giou(a: list[float], b: list[float], expected_iou: float, expected_giou: float) -> None:
    a_xyxy, b_xyxy = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    assert float(iou(a_xyxy, b_xyxy)) == pytest.approx(expected_iou)
    assert float(giou(a_xyxy, b_xyxy)) == pytest.approx(expected_giou)


def test_all_pairs_by_broadcasting() -> None:
    a, b = torch.rand(5, 2), torch.rand(7, 2)
    a_xyxy, b_xyxy = torch.cat((a, a + 0.5), 1), torch.cat((b, b + 0.5), 1)
    pairs = giou(a_xyxy[:, None], b_xyxy[None])
    assert pairs.shape == (5, 7)
    torch.testing.assert_close(pairs.diagonal(), giou(a_xyxy, b_xyxy[:5]))


def test_gradients_of_empty_boxes_are_finite() -> None:
    box_xyxy = torch.zeros(1, 4, requires_grad=True)
    giou(box_xyxy, torch.zeros(1, 4)).sum().backward()
    assert box_xyxy.grad is not None
    assert torch.isfinite(box_xyxy.grad).all()
