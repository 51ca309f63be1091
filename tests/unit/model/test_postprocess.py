"""Detections from predictions."""

import pytest
import torch

from dfine_cli.model.postprocess import postprocess
from dfine_cli.types import LayerOutput


def test_best_pairs_of_query_and_class_come_first():
    logits = torch.tensor([[[0.0, 3.0, -1.0], [2.0, 1.0, -5.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.4, 0.2]]])
    labels, boxes_xyxy, scores = postprocess(LayerOutput(logits, boxes), torch.tensor([[100, 50]]), 3)
    assert labels.tolist() == [[1, 0, 1]]
    assert labels.dtype == torch.int64
    torch.testing.assert_close(scores, torch.tensor([[3.0, 2.0, 1.0]]).sigmoid())
    outside = [-10.0, 5.0, 30.0, 15.0]  # not clipped
    torch.testing.assert_close(boxes_xyxy, torch.tensor([[[25.0, 12.5, 75.0, 37.5], outside, outside]]))


def test_every_image_has_its_own_size():
    output = LayerOutput(torch.zeros(2, 1, 1), torch.tensor([0.5, 0.5, 1, 1]).expand(2, 1, 4))
    _, boxes_xyxy, _ = postprocess(output, torch.tensor([[640, 480], [30, 40]]), 1)
    assert boxes_xyxy.tolist() == [[[0, 0, 640, 480]], [[0, 0, 30, 40]]]


@pytest.mark.parametrize(("top_k", "expected"), [(1, 1), (300, 6)])
def test_there_are_never_more_detections_than_pairs(top_k, expected):
    output = LayerOutput(torch.randn(2, 3, 2), torch.rand(2, 3, 4))
    labels, boxes_xyxy, scores = postprocess(output, torch.ones(2, 2), top_k)
    assert labels.shape == scores.shape == (2, expected)
    assert boxes_xyxy.shape == (2, expected, 4)


def test_an_empty_batch_gives_empty_detections():
    labels, boxes_xyxy, scores = postprocess(
        LayerOutput(torch.empty(0, 3, 2), torch.empty(0, 3, 4)), torch.empty(0, 2), 5
    )
    assert (labels.shape, boxes_xyxy.shape, scores.shape) == ((0, 5), (0, 5, 4), (0, 5))
