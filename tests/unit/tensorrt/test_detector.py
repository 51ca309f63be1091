"""Engines as detectors: the same answers as the ONNX file they were built from."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from dfine_cli.artefact import read_sidecar, sidecar_of
from dfine_cli.backends.detector import OpenOptions, open_detector
from dfine_cli.backends.tensorrt_backend import open_engine
from dfine_cli.data.classes import ClassMap
from dfine_cli.errors import DfineError, UsageError
from dfine_cli.export.tensorrt import build_engine
from tests.unit.tensorrt import graphs

SIZES = [(480, 640), (100, 50), (32, 64), (7, 1000), (333, 222)]


def pictures(count):
    return (graphs.images(count, 3) * 255).astype(np.uint8)


@pytest.fixture
def pair(world, tmp_path):
    """Builds an engine and gives it with its ONNX file."""

    def make(batch=(1, 2, 4), contract="published", **options):
        onnx_file = graphs.write(tmp_path / "model.onnx", graphs.describe(batch, contract), **options)
        return build_engine(onnx_file, read_sidecar(onnx_file), tmp_path / "model.engine").file, onnx_file

    return make


@pytest.mark.parametrize("contract", ["published", "end2end"])
@pytest.mark.parametrize("batch", [(1, 1, 1), (2, 2, 2), (1, 2, 4)])
@pytest.mark.parametrize("count", [1, 5])
def test_an_engine_detects_what_its_graph_detects(pair, contract, batch, count):
    engine, onnx_file = pair(batch, contract)
    found = open_detector(engine).detect(pictures(count), SIZES[:count])
    expected = open_detector(onnx_file, "cpu").detect(pictures(count), SIZES[:count])
    assert len(found) == count
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.spread is None and theirs.spread is None
        for one, other in zip(ours[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


@pytest.mark.parametrize("count", [1, 5])
def test_passes_as_graphs_give_the_same(pair, count):
    file = pair()[0]
    graphed = open_engine(file, OpenOptions(), graphs=True)
    for pictures_ in (pictures(count), pictures(count)[::-1].copy()):
        found = graphed.detect(pictures_, SIZES[:count])
        expected = open_detector(file).detect(pictures_, SIZES[:count])
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours.scores, theirs.scores)
            np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert graphed.session.engine.is_captured


def test_a_pass_is_timed_by_events_and_its_memory_is_known(world, pair):
    session = open_detector(pair()[0]).session
    ready = session.prepare(graphs.images(2), graphs.sizes_wh(2))
    result, ms = session.event_timer(lambda: session.run(ready))
    assert ms == pytest.approx(2 * world.gpu.per_task_ms)
    assert session.fetch(result).scores.shape == (2, 3)
    assert session.peak_device_mb() * 2**20 == pytest.approx(world.gpu.used)


def test_it_says_what_it_is(pair):
    detector = open_detector(pair(half=True)[0])
    assert detector.name == "dfine-n"
    assert detector.input_size == graphs.SIZE
    assert detector.classes == ClassMap(("red", "white", "other"), (3, 7, 9), "auto")
    assert detector.session.device == "cuda:0"
    assert detector.session.precision == "fp32 60%, fp16 40%"
    assert detector.artefact.batch == (1, 2, 4)


def test_an_engine_that_keeps_no_details_has_a_precision_that_is_not_told(world, pair):
    from tests.unit.tensorrt.simulated_runtime import unpack
    from tests.unit.tensorrt.simulation import MAGIC

    file = pair()[0]
    header, model = unpack(file.read_bytes())
    text = json.dumps(header | {"layers": ["conv"]}).encode()
    file.write_bytes(
        MAGIC + len(text).to_bytes(4, "little") + len(model).to_bytes(8, "little") + text + model
    )
    artefact = read_sidecar(file)
    sidecar_of(file).write_text(dataclasses.replace(artefact, runtime={}).to_json())
    assert open_detector(file).session.precision == "not told"


def test_an_engine_of_another_tool_is_taken_with_given_classes(pair):
    file = pair()[0]
    sidecar_of(file).unlink()
    classes = ClassMap(("a", "b", "c"), (1, 2, 3), "auto")
    detector = open_detector(file, options=OpenOptions(classes=classes))
    assert detector.classes == classes
    assert detector.artefact.batch == (1, 2, 4)
    assert len(detector.detect(pictures(5), SIZES)) == 5


def test_an_engine_with_the_description_of_another_is_refused(pair):
    file = pair()[0]
    artefact = read_sidecar(file)
    sidecar_of(file).write_text(dataclasses.replace(artefact, input_size=(640, 640)).to_json())
    with pytest.raises(DfineError, match="its description is that of another file"):
        open_detector(file)


def test_another_input_size_is_refused(pair):
    with pytest.raises(UsageError, match="takes images of 32x64, not 64x64"):
        open_detector(pair()[0], options=OpenOptions(input_size=(64, 64)))


def test_a_gpu_without_memory_is_told_with_the_batch(world, pair):
    detector = open_detector(pair()[0])
    world.gpu.memory = world.gpu.used + 100
    with pytest.raises(DfineError, match=r"on cuda:0: no memory for a batch of 4") as failure:
        detector.detect(pictures(5), SIZES)
    assert "--batch" in failure.value.hint
