"""The graph that `dfine export` writes, built and run as far as that can be without TensorRT."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dfine_cli.artefact import Artefact, BatchRange
from dfine_cli.backends.detector import open_detector
from dfine_cli.backends.engine_layers import FLOATS
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.preprocess import Preprocessing
from dfine_cli.export.bundle import write_bundle
from dfine_cli.export.onnx import build_graph, write_onnx
from dfine_cli.export.precision import convert
from dfine_cli.export.quantise import CalibrationImages
from dfine_cli.export.spec import GraphSpec
from dfine_cli.export.tensorrt import build_engine
from dfine_cli.model.dfine import build_model

CLASSES = ClassMap(("red", "white", "other"), (3, 7, 9), "auto")
SIZE = (64, 96)
SHARES = {"fp32": {"fp32"}, "fp16": {"fp32", "fp16"}, "int8": {"fp32", "int8"}}
"""Types of numbers that the layers of each precision compute in."""


@pytest.fixture(scope="module")
def graph():
    """A fresh D-FINE-N for small images."""
    torch.manual_seed(0)
    return build_graph(build_model("n", len(CLASSES), input_size=SIZE).eval(), spec("gather"))


def spec(sampling):
    return GraphSpec(SIZE, "published", BatchRange(1, 2, 3), sampling=sampling)


def described(precision):
    return Artefact(
        name="dfine-n",
        size="n",
        contract="published",
        input_size=SIZE,
        batch=BatchRange(1, 2, 3),
        classes=CLASSES.to_dict(),
        preprocessing=Preprocessing(SIZE).describe(),
        precision=precision,
    )


@pytest.fixture(scope="module", params=SHARES)
def exported(request, graph, tmp_path_factory):
    """It as an ONNX file in each precision, and its description."""
    folder = tmp_path_factory.mktemp("exported")
    picture = folder / "picture.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (50, 70, 3), np.uint8)).save(picture)
    file = folder / "dfine-n.onnx"
    artefact = described(request.param)
    write_onnx(convert(graph, request.param, CalibrationImages([picture])).model, artefact, file)
    return file, artefact


def test_its_engine_detects_what_it_detects_in_onnx_runtime(world, exported, tmp_path):
    file, artefact = exported
    images = np.random.default_rng(0).integers(0, 255, (4, 3, *SIZE), np.uint8)
    sizes = [(480, 640), (64, 96), (1000, 30), (33, 44)]
    built = build_engine(file, artefact, tmp_path / "dfine-n.engine")
    assert SHARES[artefact.precision] == {
        name for name in built.artefact.runtime["layer_types"] if name in FLOATS
    }
    assert not built.log.warnings
    found = open_detector(built.file).detect(images, sizes)
    expected = open_detector(file, "cpu").detect(images, sizes)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
        assert len(ours.boxes) == len(theirs.boxes) > 0


@pytest.fixture(scope="module")
def with_grid_sample(tmp_path_factory):
    torch.manual_seed(0)
    model = build_model("n", len(CLASSES), input_size=SIZE).eval()
    file = tmp_path_factory.mktemp("grid") / "dfine-n.onnx"
    write_onnx(build_graph(model, spec("grid")), described("fp32"), file)
    return file


def test_a_graph_with_grid_sample_is_warned_of(world, with_grid_sample, tmp_path):
    built = build_engine(with_grid_sample, described("fp32"), tmp_path / "dfine-n.engine")
    assert "layers of the graph are GridSample" in built.log.warnings[0]
    assert "--sampling gather" in built.log_file.read_text()


def test_its_bundle_holds_a_sample_of_it(exported, tmp_path):
    file, artefact = exported
    bundle = write_bundle(file, artefact, tmp_path / "bundle")
    with np.load(bundle / "sample.npz") as sample:
        assert sample["input.images"].shape == (2, 3, *SIZE)
        assert sample["output.boxes"].shape[::2] == (2, 4)
        assert np.isfinite(sample["output.scores"]).all()
    text = (bundle / "trtexec.sh").read_text()
    assert "--stronglyTyped" in text
    assert "--maxShapes=images:3x3x64x96,orig_target_sizes:3x2" in text
