"""The graph that `dfine export` writes, built and run as far as that can be without TensorRT."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dfine_cli.artefact import Artefact, BatchRange
from dfine_cli.backends.detector import open_detector
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.preprocess import Preprocessing
from dfine_cli.export.bundle import write_bundle
from dfine_cli.export.onnx import build_graph, write_onnx
from dfine_cli.export.spec import GraphSpec
from dfine_cli.export.tensorrt import build_engine
from dfine_cli.model.dfine import build_model

CLASSES = ClassMap(("red", "white", "other"), (3, 7, 9), "auto")
SIZE = (64, 96)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A fresh D-FINE-N for small images as an ONNX file, and its description."""
    torch.manual_seed(0)
    model = build_model("n", len(CLASSES), input_size=SIZE).eval()
    spec = GraphSpec(SIZE, "published", BatchRange(1, 2, 3))
    artefact = Artefact(
        name="dfine-n",
        size="n",
        contract=spec.contract,
        input_size=SIZE,
        batch=spec.batch,
        classes=CLASSES.to_dict(),
        preprocessing=Preprocessing(SIZE).describe(),
    )
    file = tmp_path_factory.mktemp("exported") / "dfine-n.onnx"
    write_onnx(build_graph(model, spec), artefact, file)
    return file, artefact


def test_its_engine_detects_what_it_detects_in_onnx_runtime(world, exported, tmp_path):
    file, artefact = exported
    images = np.random.default_rng(0).integers(0, 255, (4, 3, *SIZE), np.uint8)
    sizes = [(480, 640), (64, 96), (1000, 30), (33, 44)]
    engine = build_engine(file, artefact, tmp_path / "dfine-n.engine").file
    found = open_detector(engine).detect(images, sizes)
    expected = open_detector(file, "cpu").detect(images, sizes)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
        assert len(ours.boxes) == len(theirs.boxes) > 0


def test_its_bundle_holds_a_sample_of_it(exported, tmp_path):
    file, artefact = exported
    bundle = write_bundle(file, dataclasses.replace(artefact), tmp_path / "bundle")
    with np.load(bundle / "sample.npz") as sample:
        assert sample["input.images"].shape == (2, 3, *SIZE)
        assert sample["output.boxes"].shape[::2] == (2, 4)
        assert np.isfinite(sample["output.scores"]).all()
    text = (bundle / "trtexec.sh").read_text()
    assert "--stronglyTyped" in text
    assert "--maxShapes=images:3x3x64x96,orig_target_sizes:3x2" in text
