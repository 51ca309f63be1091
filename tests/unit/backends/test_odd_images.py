"""Exported files and PyTorch see the same in images that break careless loaders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dfine_cli.backends.detector import OpenOptions, open_detector
from dfine_cli.backends.torch_backend import TorchDetector
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoDataset, load_coco
from dfine_cli.evaluation.predict import detect_all
from dfine_cli.export.onnx import build_graph, describe, write_onnx
from dfine_cli.export.openvino import write_openvino
from dfine_cli.export.source import Source
from dfine_cli.export.spec import GraphSpec
from dfine_cli.model.dfine import build_model

SIZE = (96, 128)


@pytest.fixture(scope="module")
def fruits(shared: Path) -> CocoDataset:
    file = load_coco(shared / "data/fruits_odd/instances.json")
    return CocoDataset(file, shared / "data/fruits_odd/images", ClassMap.build(file.categories, "auto"))


@pytest.fixture(scope="module")
def in_torch() -> TorchDetector:
    """D-FINE-N with random weights of which the scores differ."""
    torch.manual_seed(0)
    model = build_model("n", 3, input_size=SIZE, num_queries=40)
    with torch.no_grad():
        for head in model.decoder.dec_score_head:
            head.weight.normal_(0, 0.3)
    classes = ClassMap(("apple", "banana", "orange"), (1, 2, 3), "auto")
    return TorchDetector(model, classes, SIZE, torch.device("cpu"))


@pytest.mark.parametrize(("name", "write"), [("model.onnx", write_onnx), ("model.xml", write_openvino)])
def test_an_exported_file_finds_what_torch_finds(
    fruits: CocoDataset,
    in_torch: TorchDetector,
    name: str,
    write: Callable[..., object],
    tmp_path: Path,
) -> None:
    file, spec = tmp_path / name, GraphSpec(SIZE)
    write(build_graph(in_torch.model, spec), describe(Source(file, in_torch, "", ""), spec), file)
    ours = open_detector(file, options=OpenOptions("cpu", threads=1))
    expected = dict(detect_all(in_torch, fruits, batch=4, workers=0))
    found = dict(detect_all(ours, fruits, batch=4, workers=2))
    assert list(found) == list(expected) and len(found) == 9
    for image, detections in expected.items():
        np.testing.assert_allclose(found[image].scores, detections.scores, atol=1e-4)
        sure = detections.scores > detections.scores[15]  # near the end of the list others may come in
        assert sure.sum() >= 10
        np.testing.assert_array_equal(found[image].labels[sure], detections.labels[sure])
        np.testing.assert_allclose(found[image].boxes[sure], detections.boxes[sure], atol=0.05)
