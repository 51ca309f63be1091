"""ONNX files: the same detections in ONNX Runtime, at every batch, and what they say about themselves."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dfine_cli.artefact import KEY, Artefact, BatchRange, read_sidecar, sidecar_of
from dfine_cli.backends.torch_backend import TorchDetector
from dfine_cli.data.classes import ClassMap
from dfine_cli.errors import DfineError, UsageError
from dfine_cli.export.deploy import DeployModel
from dfine_cli.export.deploy_sampling import GatherSampler, GridSampler
from dfine_cli.export.onnx import describe, write_onnx
from dfine_cli.export.source import Source
from dfine_cli.export.spec import GraphSpec, parse_batch
from tests.unit.export.detectors import expected, make_detector, make_graph, make_inputs

SIZE = (64, 96)


@pytest.fixture(scope="module")
def model():
    return make_detector("n", SIZE)


def run(graph, images, sizes):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {"images": images.numpy(), "orig_target_sizes": sizes.numpy()}
    return session.run(None, {port.name: given[port.name] for port in session.get_inputs()})


def assert_same(found, right):
    assert found[0].tolist() == right[0].tolist() and found[0].dtype == np.int64
    np.testing.assert_allclose(
        found[1], right[1].numpy(), rtol=0, atol=2e-3
    )  # pixels of originals up to 1000
    np.testing.assert_allclose(found[2], right[2].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampling", ["grid", "gather"])
@pytest.mark.parametrize(("batch", "counts"), [("1", [1]), ("2", [2]), ("1,2,4", [1, 2, 4])])
def test_every_batch_gives_what_torch_gives(model, batch, counts, sampling):
    graph = make_graph(GraphSpec(SIZE, batch=parse_batch(batch), sampling=sampling))
    images, sizes = make_inputs(4, SIZE)
    for count in counts:
        assert_same(run(graph, images[:count], sizes[:count]), expected(model, images[:count], sizes[:count]))


@pytest.mark.parametrize("opset", [16, 18, 19])
def test_every_operator_set_gives_what_torch_gives(model, opset):
    graph = make_graph(GraphSpec(SIZE, opset=opset, contract="end2end", sampling="grid"))
    assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [opset]
    assert [value.name for value in graph.graph.input] == ["images"]
    images, _ = make_inputs(1, SIZE)
    assert_same(run(graph, images, torch.zeros(1)), expected(model, images, torch.tensor([[96, 64]])))


@pytest.mark.parametrize(("size", "sampler"), [("n", GridSampler), ("s", GatherSampler)])
def test_the_sampling_suits_the_width(size, sampler):
    deployed = DeployModel(make_detector(size, (64, 64)), GraphSpec((64, 64)))
    assert all(isinstance(layer.cross_attn, sampler) for layer in deployed.decoder.layers)


@pytest.mark.parametrize(("sampling", "nodes"), [("grid", 540), ("gather", 580)])
def test_the_graph_is_small(sampling, nodes):
    kinds = Counter(node.op_type for node in make_graph(GraphSpec(SIZE, sampling=sampling)).graph.node)
    assert kinds.total() < nodes  # published code: 720
    assert kinds["GridSample"] == (6 if sampling == "grid" else 0)
    assert not {"Constant", "Identity", "Shape", "If", "BatchNormalization", "Sin"} & set(kinds)


def test_a_free_batch_is_free_in_every_port():
    graph = make_graph(GraphSpec(SIZE, batch=BatchRange(1, 2, 4), sampling="grid"))
    ports = {
        port.name: [d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim]
        for port in (*graph.graph.input, *graph.graph.output)
    }
    assert ports == {
        "images": ["batch", 3, 64, 96],
        "orig_target_sizes": ["batch", 2],
        "labels": ["batch", 20],
        "boxes": ["batch", 20, 4],
        "scores": ["batch", 20],
    }


@pytest.fixture
def source(model, tmp_path):
    classes = ClassMap(tuple("abcdefg"), (1, 2, 3, 5, 8, 13, 21), "auto")
    detector = TorchDetector(model, classes, SIZE, torch.device("cpu"), "dfine-n", "ignore")
    return Source(tmp_path / "best.pt", detector, "f00", "Apache-2.0", {"threshold": 0.4})


def test_the_file_describes_itself_inside_and_beside(source, tmp_path):
    spec = GraphSpec(SIZE, batch=BatchRange(1, 2, 4), sampling="grid")
    file = tmp_path / "new" / "model.onnx"
    write_onnx(make_graph(spec), describe(source, spec), file)
    inside = {entry.key: entry.value for entry in onnx.load(file).metadata_props}[KEY]
    assert inside == sidecar_of(file).read_text()
    found = read_sidecar(file)
    assert found == Artefact.from_json(inside, file)
    assert found.classes == {
        "names": list("abcdefg"),
        "category_ids": [1, 2, 3, 5, 8, 13, 21],
        "rule": "auto",
    }
    assert (found.input_size, found.batch, found.opset, found.exif) == (SIZE, (1, 2, 4), 17, "ignore")
    assert found.preprocessing["channels"] == "RGB" and found.preprocessing["divide_by"] == 255
    assert found.source == {"file": "best.pt", "sha256": "f00"} and found.operating_point == {
        "threshold": 0.4
    }
    assert {"dfine-cli", "torch", "onnx", "onnxsim"} <= set(found.versions) and found.licence
    assert json.loads(inside)["schema_version"] == 1


def test_nothing_is_left_of_a_file_that_cannot_be_written(source, tmp_path):
    (tmp_path / "taken").write_text("a file")
    spec = GraphSpec(SIZE)
    with pytest.raises(DfineError, match="taken"):
        write_onnx(onnx.ModelProto(), describe(source, spec), tmp_path / "taken" / "model.onnx")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    "text", ["0", "", "-1", "4,2,1", "1,2", "1,2,3,4", "many", "1.5", "1,0,2", "99999", "²"]
)
def test_a_batch_that_is_none(text):
    with pytest.raises(UsageError, match="--batch"):
        parse_batch(text)


@pytest.mark.parametrize(
    ("text", "batch"), [("1", (1, 1, 1)), ("8", (8, 8, 8)), ("1, 4,16", (1, 4, 16)), ("2,2,2", (2, 2, 2))]
)
def test_a_batch(text, batch):
    assert parse_batch(text) == batch


@pytest.mark.parametrize("opset", [15, 20])
def test_an_operator_set_that_is_not_written(opset):
    with pytest.raises(UsageError, match=f"--opset {opset}: must be one of 16, 17, 18, 19"):
        GraphSpec(SIZE, opset=opset)
