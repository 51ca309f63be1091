"""Opening and running engines, against the recorded names of every release."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from dfine_cli.artefact import read_sidecar, sidecar_of
from dfine_cli.backends.cuda import Cuda
from dfine_cli.backends.tensorrt_engine import open_plan
from dfine_cli.errors import DfineError, MissingError, UsageError
from dfine_cli.export.tensorrt import build_engine
from tests.unit.tensorrt import graphs
from tests.unit.tensorrt.conftest import install
from tests.unit.tensorrt.fake_cuda import FakeGpu, cudaError_t

OTHER = {"10.0.1": "10.13.3.9", "10.13.3.9": "11.4.0.106", "11.4.0.106": "10.0.1"}


def inputs(count, seed=0):
    return {"images": graphs.images(count, seed), "orig_target_sizes": graphs.sizes_wh(count)}


@pytest.fixture
def onnx_file(tmp_path):
    return graphs.write(tmp_path / "model.onnx", graphs.describe((1, 2, 4)))


@pytest.fixture
def file(world, onnx_file):
    """An engine for 1 to 4 images."""
    return build_engine(onnx_file, read_sidecar(onnx_file), onnx_file.with_suffix(".engine")).file


@pytest.fixture
def reference(onnx_file):
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return lambda arrays: dict(zip(names, session.run(names, arrays), strict=True))


def one_pass(engine, arrays):
    engine.load(arrays)
    engine.run()
    return engine.read()


def same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_every_batch_of_the_profile_gives_what_onnx_runtime_gives(file, reference):
    engine = open_plan(file)
    for count in (1, 4, 2):
        same(one_pass(engine, inputs(count, count)), reference(inputs(count, count)))


def test_inputs_are_cast_to_the_types_of_the_engine(file, reference):
    arrays = {
        "images": graphs.images(1).astype(np.float64),
        "orig_target_sizes": graphs.sizes_wh(1).astype(np.int32),
    }
    same(one_pass(open_plan(file), arrays), reference(inputs(1)))


def test_the_ports_say_what_the_engine_takes_and_gives(file):
    engine = open_plan(file)
    assert list(engine.inputs) == ["images", "orig_target_sizes"]
    assert engine.inputs["images"].shapes == tuple((b, 3, *graphs.SIZE) for b in (1, 2, 4))
    assert engine.inputs["orig_target_sizes"].dtype == np.int64
    assert set(engine.outputs) == {"labels", "boxes", "scores"}


def test_a_graph_gives_the_same_and_is_dropped_when_the_shape_changes(file, reference):
    engine = open_plan(file)
    engine.load(inputs(2))
    engine.capture()
    for seed in (5, 6):  # the graph reads the buffers, not what they held when it was captured
        same(one_pass(engine, inputs(2, seed)), reference(inputs(2, seed)))
    same(one_pass(engine, inputs(4)), reference(inputs(4)))
    same(one_pass(engine, inputs(2)), reference(inputs(2)))


def test_passes_are_timed_by_events_on_the_device(world, file):
    engine = open_plan(file)
    engine.load(inputs(2))
    _, ms = engine.time_ms(engine.run)
    assert ms == pytest.approx(world.gpu.per_task_ms * 2)  # the pass and the second event
    engine.capture()
    assert engine.time_ms(engine.run)[1] == pytest.approx(ms)


def test_closing_gives_everything_back(world, file):
    engine = open_plan(file)
    one_pass(engine, inputs(4))
    engine.capture()
    assert world.gpu.used > 0 and engine.memory_mb > 0
    engine.close()
    assert world.gpu.used == 0 and world.gpu.open == {}


def test_buffers_grow_once_and_are_used_again(world, file):
    engine = open_plan(file)
    one_pass(engine, inputs(4))
    used = world.gpu.used
    for count in (1, 3, 4):
        one_pass(engine, inputs(count))
    assert world.gpu.used == used


@pytest.mark.parametrize("count", [5, 64])
def test_a_batch_above_the_profile_is_told_with_its_limits(file, count):
    with pytest.raises(
        UsageError, match=rf"a batch of {count} does not fit, its profile takes 1 to 4"
    ) as failure:
        open_plan(file).load(inputs(count))
    assert f"--batch 1,4,{count}" in failure.value.hint


def test_images_of_another_size_are_refused(file):
    arrays = inputs(1) | {"images": np.zeros((1, 3, 64, 64), np.float32)}
    with pytest.raises(UsageError, match="images is 1x3x64x64, the engine takes 4x3x32x64"):
        open_plan(file).load(arrays)


def test_other_inputs_are_refused(file):
    with pytest.raises(UsageError, match="takes images, orig_target_sizes, not x"):
        open_plan(file).load({"x": np.zeros(1)})


def test_an_engine_without_description_runs(file, reference):
    sidecar_of(file).unlink()
    engine = open_plan(file)
    assert engine.artefact is None
    same(one_pass(engine, inputs(2)), reference(inputs(2)))


@pytest.mark.parametrize("described", [True, False])
def test_a_truncated_engine(world, file, described):
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    if not described:
        sidecar_of(file).unlink()
    with pytest.raises(DfineError, match="cut off") as failure:
        open_plan(file)
    assert "model.engine" in failure.value.message and "copy it again" in failure.value.hint
    assert (f"{len(data):,}" in failure.value.message) == described
    assert world.gpu.open == {}  # nothing of the GPU is held


def test_an_empty_file_and_a_file_of_something_else(file):
    sidecar_of(file).unlink()
    file.write_bytes(b"")
    with pytest.raises(DfineError, match=r"model\.engine: empty"):
        open_plan(file)
    file.write_bytes(b"PK\3\4" * 100)
    with pytest.raises(DfineError, match="no engine of TensorRT"):
        open_plan(file)


@pytest.mark.parametrize("described", [True, False])
def test_an_engine_of_another_gpu(file, elsewhere, described):
    if not described:
        sidecar_of(file).unlink()
    elsewhere(gpu=FakeGpu("NVIDIA A10", "8.6"))
    with pytest.raises(
        DfineError, match=r"compute capability 7\.5.*, this is NVIDIA A10 \(8\.6\)"
    ) as failure:
        open_plan(file)
    assert ("Tesla T4" in failure.value.message) == described
    assert "dfine export" in failure.value.hint


def test_a_gpu_of_the_same_kind_under_a_longer_name_will_do(file, elsewhere):
    elsewhere(gpu=FakeGpu("NVIDIA Tesla T4", "7.5"))
    open_plan(file)


def test_a_sister_with_the_same_capability_is_another_gpu(file, elsewhere):
    elsewhere(gpu=FakeGpu("NVIDIA GeForce RTX 2080", "7.5"))
    with pytest.raises(DfineError, match=r"built on Tesla T4 .*, this is NVIDIA GeForce RTX 2080"):
        open_plan(file)


@pytest.mark.parametrize("described", [True, False])
def test_an_engine_of_another_tensorrt(world, file, elsewhere, described):
    if not described:
        sidecar_of(file).unlink()
    other = elsewhere(version=OTHER[world.version])
    with pytest.raises(
        DfineError, match=rf"built by .*TensorRT.*, this is (TensorRT )?{other.version}"
    ) as failure:
        open_plan(file)
    assert (world.version in failure.value.message) == (described or other.major == 10)
    assert "dfine export" in failure.value.hint


def test_a_gpu_without_memory_for_the_engine(world, file):
    world.contexts = False
    with pytest.raises(DfineError, match=r"the GPU cannot run it: .*out of memory") as failure:
        open_plan(file)
    assert "nvidia-smi" in failure.value.hint


def test_a_gpu_without_memory_for_a_batch(world, file):
    engine = open_plan(file)
    world.gpu.memory = world.gpu.used + 1000
    with pytest.raises(MemoryError):
        engine.load(inputs(4))


def test_a_pass_that_tensorrt_refuses(file):
    with pytest.raises(DfineError, match=r"TensorRT refuses a pass: .*enqueueV3"):
        open_plan(file).run()  # nothing was loaded


def test_an_engine_whose_number_of_detections_is_not_fixed(world, tmp_path):
    import onnx

    onnx_file = graphs.write(tmp_path / "model.onnx", graphs.describe((1, 2, 4)))
    graph = onnx.load(onnx_file)
    for port in graph.graph.output:
        port.type.tensor_type.shape.dim[1].dim_param = "found"
    del graph.graph.value_info[:]
    onnx.save(graph, onnx_file)
    file = build_engine(onnx_file, read_sidecar(onnx_file), tmp_path / "model.engine").file
    engine = open_plan(file)
    engine.plan._sim._symbols["scores"] = ["batch", "found"]
    with pytest.raises(DfineError, match="the shape of scores is known only after a pass"):
        engine.load(inputs(1))


def test_a_gpu_that_fails(world, file):
    engine = open_plan(file)
    world.gpu.fails["cudaStreamSynchronize"] = cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(DfineError, match="GPU 0 failed: cudaErrorIllegalAddress: an illegal memory access"):
        engine.load(inputs(1))


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda:x", "gpu"])
def test_a_device_that_is_no_gpu(file, device):
    with pytest.raises(UsageError, match=f"'{device}': TensorRT runs on a GPU of NVIDIA only"):
        open_plan(file, device)


def test_a_gpu_that_is_not_there(file):
    with pytest.raises(MissingError, match="cuda:1 is not there: CUDA sees 1"):
        open_plan(file, "cuda:1")


@pytest.mark.parametrize("status", [cudaError_t.cudaErrorNoDevice, cudaError_t.cudaErrorInsufficientDriver])
def test_no_gpu_at_all(world, file, status):
    world.gpu.fails["cudaGetDeviceCount"] = status
    with pytest.raises(MissingError, match=f"no GPU that CUDA can use: {status.name}") as failure:
        open_plan(file)
    assert "nvidia-smi" in failure.value.hint


def test_no_driver_library(world, file, monkeypatch):
    def fail():
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(sys.modules["cuda.bindings.runtime"], "cudaGetDeviceCount", fail)
    with pytest.raises(MissingError, match=r"Failed to dlopen libcuda\.so\.1"):
        open_plan(file)


def test_the_module_of_older_releases_of_cuda_python_does_too(world, file, reference, monkeypatch):
    install(monkeypatch, world, cuda="cuda.cudart")
    same(one_pass(open_plan(file), inputs(1)), reference(inputs(1)))


def test_the_driver_is_told_where_the_system_tells_it(world, tmp_path, monkeypatch):
    text = tmp_path / "version"
    monkeypatch.setattr("dfine_cli.backends.cuda.DRIVER_FILE", text)
    assert Cuda().facts.driver == ""
    for line in (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build",
    ):
        text.write_text(f"{line}\nGCC version:  gcc version 12.3.0\n")
        assert Cuda().facts.driver == "550.54.15"


def test_a_description_that_does_not_know_where_it_was_built_is_no_obstacle(file, elsewhere):
    artefact = read_sidecar(file)
    sidecar_of(file).write_text(dataclasses.replace(artefact, runtime={}).to_json())
    open_plan(file)


def test_engines_run_without_torch():
    code = "import sys, dfine_cli.backends.tensorrt_backend, dfine_cli.export.tensorrt; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
