"""Exported files behind one cut into stages, and what is exported to be measured."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from dfine_cli.artefact import KEY
from dfine_cli.bench.fresh_export import export_subject
from dfine_cli.bench.runner import BACKENDS, RunnerOptions, Subject
from dfine_cli.errors import MissingError, UsageError
from tests.unit.backends.conftest import SIZE, build, description

OPTIONS = RunnerOptions("cpu", 1, None, None, 3, batches=(1, 2))
FRESH = Subject("n", None, "n")
SIZES = [(480, 640), (100, 200)]


@pytest.fixture
def subject(tmp_path):
    """An ONNX file that says what it is."""
    model = build()
    model.metadata_props.add(key=KEY, value=description().to_json())
    onnx.save(model, tmp_path / "model.onnx")
    return Subject("model.onnx", tmp_path / "model.onnx", None)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Options to export sizes with."""
    folder = tmp_path_factory.mktemp("exports")
    return replace(OPTIONS, input_size=(64, 96), folder=folder)


def passed(runner, images):
    return runner.finish(runner.engine(runner.prepare(images, SIZES[: len(images)])))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "openvino-f32"])
def test_a_file_is_cut_into_stages(subject, backend):
    runner = BACKENDS[backend].open(subject, backend, OPTIONS)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, *SIZE), np.uint8)
    expected = runner.detector.detect(images, SIZES)
    for one, other in zip(passed(runner, images), expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert (runner.model, runner.size, runner.num_classes, runner.backend) == ("dfine-n", "n", 2, backend)
    assert (runner.device, runner.event_timer, runner.peak_device_mb()) == ("cpu", None, None)
    assert runner.precision in ("fp32", "bf16") and (backend == "openvino" or runner.precision == "fp32")


def test_a_file_of_another_tool_says_neither_size_nor_classes(tmp_path):
    onnx.save(build(), tmp_path / "theirs.onnx")
    subject = Subject("theirs.onnx", tmp_path / "theirs.onnx", None)
    runner = BACKENDS["onnxruntime"].open(subject, "onnxruntime", OPTIONS)
    assert (runner.model, runner.size, runner.num_classes) == ("theirs", None, None)
    assert runner.detector is not None


@pytest.mark.parametrize(
    ("backend", "changes", "message"),
    [
        ("onnxruntime", {"precision": "fp16"}, r"--precision fp16: .*model\.onnx has its own"),
        ("onnxruntime", {"device": "cuda"}, "--device cuda: onnxruntime runs on cpu"),
        ("openvino", {"device": "cuda"}, "--device cuda: openvino runs on cpu or gpu"),
        ("onnxruntime-cuda", {}, "--device cpu: onnxruntime-cuda runs on cuda"),
        ("openvino-f32", {"precision": "bf16"}, "--precision bf16: openvino-f32 computes in fp32"),
        ("onnxruntime", {"input_size": (64, 64)}, "takes images of 32x64, not 64x64"),
    ],
)
def test_options_that_do_not_fit(subject, backend, changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        BACKENDS[backend].open(subject, backend, replace(OPTIONS, **changes))
    assert caught.value.hint


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_is_not_there(subject, backend):
    with pytest.raises(MissingError, match=r"has no (CUDA|Tensorrt)ExecutionProvider"):
        BACKENDS[backend].open(subject, backend, replace(OPTIONS, device="auto"))


def test_a_batch_above_what_the_file_takes(subject):
    runner = BACKENDS["onnxruntime"].open(subject, "onnxruntime", OPTIONS)
    with pytest.raises(UsageError, match="takes 1 to 4 images in one pass, not 5"):
        runner.prepare(np.zeros((5, 3, *SIZE), np.uint8), [SIZE] * 5)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino-f32"])
def test_a_size_is_exported_and_finds_what_torch_finds(fresh, backend):
    torch.manual_seed(0)
    eager = BACKENDS["eager"].open(FRESH, "eager", fresh)
    exported = BACKENDS[backend].open(FRESH, backend, fresh)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), np.uint8)
    for count in (1, 2):
        for one, other in zip(passed(eager, images[:count]), passed(exported, images[:count]), strict=True):
            assert one.boxes.shape == other.boxes.shape == (30, 4)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    assert (exported.model, exported.size, exported.num_classes, exported.input_size) == (
        ("dfine-n", "n", 3, (64, 96))
    )
    assert exported.detector is None, "random weights have no AP"


def test_each_precision_is_exported_once(fresh):
    file = export_subject(FRESH, fresh, "fp32", "onnx")
    written = file.stat().st_mtime_ns
    assert export_subject(FRESH, fresh, "fp32", "onnx") == file and file.stat().st_mtime_ns == written
    assert export_subject(Subject("s", None, "s"), fresh, "fp32", "onnx") != file


def test_tensorrt_is_given_the_graph_that_is_exported_for_it(fresh, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    options = replace(fresh, device="auto", precision="fp32", folder=tmp_path)
    for backend in ("tensorrt", "tensorrt-graph", "onnxruntime-tensorrt"):
        with pytest.raises(MissingError):  # after the export
            BACKENDS[backend].open(FRESH, backend, options)
    export_subject(FRESH, options, "fp32", "onnx")
    found = {
        file.name: {node.op_type for node in onnx.load(file).graph.node} for file in tmp_path.glob("*.onnx")
    }
    (for_tensorrt,) = (nodes for name, nodes in found.items() if name.endswith("-fp32-gather.onnx"))
    (for_others,) = (nodes for name, nodes in found.items() if name.endswith("-fp32-auto.onnx"))
    assert "GridSample" not in for_tensorrt and "GridSample" in for_others and len(found) == 2


def test_int8_is_told_as_what_it_is(fresh):
    for backend in ("onnxruntime-int8", "openvino-int8"):
        runner = BACKENDS[backend].open(FRESH, backend, fresh)
        assert "int8" in runner.precision
        assert np.isfinite(passed(runner, np.zeros((1, 3, 64, 96), np.uint8))[0].scores).all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_int8_takes_no_other_precision(fresh, precision):
    with pytest.raises(UsageError, match=f"--precision {precision}: not a precision of onnxruntime-int8"):
        BACKENDS["onnxruntime-int8"].open(FRESH, "onnxruntime-int8", replace(fresh, precision=precision))
