"""Detectors as graphs, converted once for all tests."""

from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch

from dfine_cli.data.images import read_image
from dfine_cli.data.preprocess import Preprocessing
from dfine_cli.export.half import to_half
from dfine_cli.export.onnx import build_graph
from dfine_cli.export.spec import GraphSpec
from dfine_cli.model.dfine import build_model


class Half(NamedTuple):
    """A detector in both precisions."""

    single: onnx.ModelProto
    model: onnx.ModelProto
    islands: dict[str, list[str]]
    image: np.ndarray
    """[1, 3, H, W]."""
    sure: float
    """Score above which detections must be found again."""


@pytest.fixture(scope="session")
def single_graph():
    """D-FINE-N at 64x96 with random weights in single precision, by form of sampling."""
    torch.manual_seed(0)
    model = build_model("n", 3, input_size=(64, 96), num_queries=30)
    with torch.no_grad():  # fresh heads give every query the same score
        for head in model.decoder.dec_score_head:
            head.weight.normal_(0, 0.3)
    return {form: build_graph(model, GraphSpec((64, 96), sampling=form)) for form in ("grid", "gather")}


@pytest.fixture(scope="session", params=["grid", "gather", "trained"])
def half(request):
    """D-FINE-N with either form of sampling and random weights, and a trained detector of another exporter."""
    if request.param == "trained":
        shared = request.getfixturevalue("shared")
        single = onnx.load(shared / "weights" / "deimv2_hgnetv2_atto_coco.onnx")
        picture = read_image(next(iter(sorted((shared / "data" / "coco_open").rglob("*.jpg")))))
        image, sure = Preprocessing((320, 320))(picture)[None], 0.3
    else:
        single = request.getfixturevalue("single_graph")[request.param]
        image, sure = np.random.default_rng(0).random((1, 3, 64, 96), dtype=np.float32), 0.05
    return Half(single, *to_half(single), image, sure)
