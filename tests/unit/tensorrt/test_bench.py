"""Engines under the clock of a benchmark: CUDA events, graphs, memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dfine_cli.artefact import read_sidecar
from dfine_cli.bench.gpu import UNKNOWN
from dfine_cli.bench.plan import carry_out, make_request
from dfine_cli.bench.protocols import PROTOCOLS
from dfine_cli.bench.run import BenchSpec
from dfine_cli.bench.runner import BACKENDS, RunnerOptions, Subject
from dfine_cli.bench.timing import SystemClock
from dfine_cli.errors import UsageError
from dfine_cli.export.tensorrt import build_engine
from tests.unit.tensorrt import graphs

OPTIONS = RunnerOptions("auto", 1, None, None, 3)
SIZES = [(480, 640), (100, 50)]
IMAGES = (graphs.images(2, 3) * 255).astype(np.uint8)


@pytest.fixture
def subject(world, tmp_path):
    """An engine for one to four images."""
    onnx = graphs.write(tmp_path / "model.onnx", graphs.describe((1, 2, 4), "published"))
    engine = build_engine(onnx, read_sidecar(onnx), tmp_path / "model.engine").file
    return Subject("model.engine", engine, None)


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-graph"])
def test_stages_of_an_engine_give_what_its_detector_gives(subject, backend):
    runner = BACKENDS[backend].open(subject, backend, OPTIONS)
    assert (runner.model, runner.size, runner.device, runner.backend) == ("dfine-n", "n", "cuda:0", backend)
    for count in (1, 2, 1):
        inputs = runner.prepare(IMAGES[:count], SIZES[:count])
        outputs, milliseconds = runner.event_timer(lambda inputs=inputs: runner.engine(inputs))
        found = runner.finish(outputs)
        assert milliseconds >= 0 and runner.peak_device_mb() >= 0
        expected = runner.detector.detect(IMAGES[:count], SIZES[:count])
        for ours, theirs in zip(found, expected, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_only_the_one_with_graphs_captures(subject):
    plain = BACKENDS["tensorrt"].open(subject, "tensorrt", OPTIONS)
    plain.prepare(IMAGES[:1], SIZES[:1])
    assert not plain._session.engine.is_captured
    graphed = BACKENDS["tensorrt-graph"].open(subject, "tensorrt-graph", OPTIONS)
    graphed.prepare(IMAGES[:1], SIZES[:1])
    assert graphed._session.engine.is_captured


def test_an_onnx_file_of_this_tool_is_built_once(subject):
    from dfine_cli.bench.exported_runner import _built

    onnx = subject.path.with_suffix(".onnx")
    written = subject.path.stat().st_mtime_ns
    assert _built(onnx, "auto") == subject.path and subject.path.stat().st_mtime_ns == written
    subject.path.unlink()
    assert _built(onnx, "auto").is_file()


@pytest.mark.parametrize(
    ("changes", "name"), [({}, "Tesla T4"), ({"cuda.bindings.runtime": None}, UNKNOWN)], ids=["CUDA", "none"]
)
def test_a_row_on_a_gpu_names_it_without_nvml(subject, tmp_path, monkeypatch, changes, name):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    spec = BenchSpec(PROTOCOLS["published"].with_runs(1, 2), OPTIONS)
    request = make_request([str(subject.path)], (), None, spec, False)
    opened = BACKENDS["tensorrt"].open

    def open_it(*arguments):
        runner = opened(*arguments)
        for module, value in changes.items():
            monkeypatch.setitem(sys.modules, module, value)
        return runner

    monkeypatch.setitem(BACKENDS, "tensorrt", BACKENDS["tensorrt"]._replace(open=open_it))
    report = carry_out(request, SystemClock(), None, lambda text: None)
    assert report.environment.gpu.name == name and report.on_t4 == (name == "Tesla T4")
    assert "No readings of the GPU" in report.notes[0]


def test_what_does_not_fit(subject):
    with pytest.raises(UsageError, match="--device cpu: tensorrt runs on cuda"):
        BACKENDS["tensorrt"].open(subject, "tensorrt", RunnerOptions("cpu", 1, None, None, 3))
    runner = BACKENDS["tensorrt"].open(subject, "tensorrt", OPTIONS)
    with pytest.raises(UsageError, match="takes 1 to 4 images in one pass, not 5"):
        runner.prepare(np.repeat(IMAGES[:1], 5, 0), [SIZES[0]] * 5)
