"""What the decoder's layers say about a detection."""

import numpy as np
import pytest
import torch

from dfine_cli.backends.refinement import trace_refinement
from dfine_cli.backends.torch_backend import TorchDetector
from dfine_cli.data.classes import ClassMap
from dfine_cli.model.dfine import build_model

SIZE = (300, 200)


@pytest.fixture(scope="module")
def traced():
    torch.manual_seed(0)
    model = build_model("n", 2, input_size=(64, 96), num_queries=20, bins=16).eval()
    with torch.no_grad():  # untrained heads move no edge
        for head in model.decoder.dec_bbox_head:
            torch.nn.init.normal_(head.layers[-1].weight, std=0.3)
    detector = TorchDetector(model, ClassMap(("a", "b"), (1, 2), "auto"), (64, 96), torch.device("cpu"))
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 96), dtype=np.uint8)
    return detector.detect(pixels[None], [SIZE])[0], trace_refinement(detector, pixels, SIZE, 7)


def test_the_detections_are_those_of_the_detector(traced):
    usual, refinements = traced
    assert len(refinements) == 7
    for n, found in enumerate(refinements):
        assert found.label == usual.labels[n] and found.score == pytest.approx(usual.scores[n])
        assert found.boxes_xyxy[-1] == pytest.approx(usual.boxes[n], abs=1e-3)
        assert found.spread == pytest.approx(usual.spread[n], abs=1e-3)


def test_the_distributions_are_what_moves_the_edges(traced):
    for found in traced[1]:
        assert found.probabilities.shape == (3, 4, 17) and found.boxes_xyxy.shape == (3, 4)
        assert found.probabilities.sum(-1) == pytest.approx(np.ones((3, 4)), abs=1e-5)
        outwards = (found.probabilities * found.shifts).sum(-1)
        moved = found.initial_xyxy + outwards * np.array((-1, -1, 1, 1))
        assert moved == pytest.approx(found.boxes_xyxy, abs=1e-2)
        assert np.abs(found.boxes_xyxy - found.initial_xyxy).max() > 0.1


def test_shifts_are_the_bins_at_the_size_of_the_box(traced):
    found = traced[1][0]
    width, height = found.initial_xyxy[2:] - found.initial_xyxy[:2]
    largest = 2 * 0.5 * np.array([width, height] * 2)  # the outermost bins are at 2a
    assert found.shifts[:, -1] == pytest.approx(largest, rel=1e-4)
    assert found.shifts[:, 0] == pytest.approx(-largest, rel=1e-4) and (np.diff(found.shifts) > 0).all()
