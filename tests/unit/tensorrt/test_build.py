"""ONNX file to engine, against the recorded names of every release."""

from __future__ import annotations

import signal
import sys

import numpy as np
import onnxruntime
import pytest

from dfine_cli.artefact import read_sidecar
from dfine_cli.backends.tensorrt_engine import open_plan
from dfine_cli.errors import CheckError, DfineError, Interrupted, MissingError, UsageError
from dfine_cli.export.tensorrt import BuildOptions, build_engine
from tests.unit.tensorrt import graphs
from tests.unit.tensorrt.fake_cuda import cudaError_t
from tests.unit.tensorrt.simulated_runtime import unpack


@pytest.fixture
def onnx_file(tmp_path):
    return graphs.write(tmp_path / "model.onnx", graphs.describe())


def build(onnx_file, **options):
    artefact = read_sidecar(onnx_file)
    return build_engine(onnx_file, artefact, onnx_file.with_suffix(".engine"), BuildOptions(**options))


def left(folder):
    """What a failed build leaves beside the ONNX file and its description."""
    return sorted(p.name for p in folder.iterdir() if p.name not in ("model.onnx", "model.onnx.json"))


def test_an_engine_comes_with_its_description_and_its_log(world, onnx_file, tmp_path):
    world.build_warning = "Detected layernorm nodes in FP16."
    built = build(onnx_file)
    assert left(tmp_path) == ["model.engine", "model.engine.json", "model.engine.log"]
    assert read_sidecar(built.file) == built.artefact
    known = built.artefact.runtime
    assert known.pop("build_seconds") >= 0
    assert known.pop("driver", "") is not None
    assert known == {
        "tensorrt": world.version,
        "gpu": "Tesla T4",
        "compute_capability": "7.5",
        "cuda_driver": "12.4",
        "cuda_runtime": "12.9",
        "bytes": built.file.stat().st_size,
        "workspace_mb": None,
        "layer_types": {"fp32": 9, "int64": 2},
    }
    assert built.artefact.classes == graphs.describe().classes
    assert "Detected layernorm" in built.log_file.read_text()
    assert built.summary()[1:3] == [
        "layers: 11 (fp32 100%)",
        "1 warnings, the first: Detected layernorm nodes in FP16.",
    ]


def test_the_network_is_strongly_typed_and_its_types_are_those_of_the_graph(world, tmp_path):
    artefact = graphs.describe(precision="fp16")
    onnx_file = graphs.write(tmp_path / "model.onnx", artefact, half=True)
    built = build(onnx_file)
    header, _ = unpack(built.file.read_bytes())
    assert header["strong"]
    assert built.artefact.runtime["layer_types"] == {"fp32": 6, "fp16": 4, "int64": 2}
    assert built.summary()[1] == "layers: 12 (fp32 60%, fp16 40%)"


def test_an_engine_in_another_precision_than_asked_is_not_kept(world, tmp_path):
    onnx_file = graphs.write(tmp_path / "model.onnx", graphs.describe(precision="fp16"), half=False)
    with pytest.raises(CheckError, match="fp16 was asked for, but no layer of the engine is: fp32 100%"):
        build(onnx_file)
    assert left(tmp_path) == ["model.engine.log"]


@pytest.mark.parametrize("contract", ["published", "end2end"])
def test_the_profile_is_the_batch_of_the_description(world, tmp_path, contract):
    artefact = graphs.describe((1, 4, 16), contract)
    built = build(graphs.write(tmp_path / "model.onnx", artefact))
    header, _ = unpack(built.file.read_bytes())
    assert header["profile"]["images"] == [[b, 3, *graphs.SIZE] for b in (1, 4, 16)]
    if contract == "published":
        assert header["profile"]["orig_target_sizes"] == [[b, 2] for b in (1, 4, 16)]


def test_an_open_graph_whose_sizes_are_open_too_is_refused(world, tmp_path):
    import onnx

    file = graphs.write(tmp_path / "model.onnx", graphs.describe((1, 2, 4)))
    graph = onnx.load(file)
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(graph, file)
    with pytest.raises(DfineError, match="only the first dimension"):
        build(file)


def test_a_graph_of_another_batch_than_described_is_refused(world, onnx_file):
    artefact = graphs.describe((1, 2, 4))
    with pytest.raises(DfineError, match="takes 1 images, its description says 1 to 4"):
        build_engine(onnx_file, artefact, onnx_file.with_suffix(".engine"))


def test_a_profile_that_does_not_ascend_is_told(world, tmp_path):
    file = graphs.write(tmp_path / "model.onnx", graphs.describe((1, 2, 4)))
    with pytest.raises(DfineError, match="refuses a profile of 4, 2 and 1") as failure:
        build_engine(file, graphs.describe((4, 2, 1)), tmp_path / "model.engine")
    assert "--batch" in failure.value.hint


def test_what_the_parser_refuses_is_told_with_node_and_operator(world, onnx_file, tmp_path):
    world.refused = {"TopK"}
    with pytest.raises(DfineError) as failure:
        build(onnx_file)
    assert (
        f"model.onnx: TensorRT {world.version} cannot parse node 3 '/decoder/top' (TopK): "
        in failure.value.message
    )
    assert "No importer registered for op: TopK. Attempting" in failure.value.message
    assert "\n" not in failure.value.message and "TopK" in failure.value.hint
    assert left(tmp_path) == ["model.engine.log"]


def test_all_errors_of_the_parser_are_counted(world, onnx_file):
    world.refused = {"TopK", "Sigmoid"}
    with pytest.raises(DfineError, match=r"Sigmoid.*\(and 1 more\)"):
        build(onnx_file)


def test_a_file_that_is_no_graph_is_told(world, onnx_file):
    onnx_file.write_bytes(b"\x08\x08nonsense")
    with pytest.raises(DfineError, match="cannot parse the graph: Failed to parse ONNX model"):
        build(onnx_file)


@pytest.mark.parametrize(
    ("said", "word", "hint"),
    [
        (
            "[virtualMemoryBuffer.cpp::resizePhysical::148] Error Code 2: OutOfMemory",
            "no memory left",
            "nvidia-smi",
        ),
        (
            "Requested amount of GPU memory (1073741824 bytes) could not be allocated.",
            "no memory left",
            "--batch",
        ),
        (
            "Error Code 10: Internal Error (Could not find any implementation for node /conv due to insufficient "
            "workspace. See verbose log for requested sizes.)",
            "more workspace than allowed",
            "--workspace",
        ),
        (
            "Error Code 2: Internal Error (Assertion failed)",
            "built no engine: Error Code 2",
            "newer TensorRT",
        ),
    ],
)
def test_a_build_that_fails_says_why_and_leaves_only_its_log(world, onnx_file, tmp_path, said, word, hint):
    world.build_error = said
    with pytest.raises(DfineError, match=word) as failure:
        build(onnx_file)
    assert hint in failure.value.hint
    assert str(tmp_path / "model.engine.log") in failure.value.hint
    assert left(tmp_path) == ["model.engine.log"]
    assert said in (tmp_path / "model.engine.log").read_text()


def test_a_failed_build_leaves_the_engine_of_before(world, onnx_file):
    whole = build(onnx_file).file.read_bytes()
    world.build_error = "Error Code 2: OutOfMemory"
    with pytest.raises(DfineError):
        build(onnx_file)
    assert onnx_file.with_suffix(".engine").read_bytes() == whole


def test_the_workspace_is_given_in_bytes(world, onnx_file):
    built = build(onnx_file, workspace_mb=512)
    assert world.workspace == 512 * 2**20
    assert built.artefact.runtime["workspace_mb"] == 512


@pytest.mark.parametrize("workspace_mb", [0, -1, 16 * 1024])
def test_a_workspace_that_makes_no_sense_is_refused(world, onnx_file, tmp_path, workspace_mb):
    with pytest.raises(UsageError, match=rf"workspace of {workspace_mb} MB: must be 1 to 15360 MB.*Tesla T4"):
        build(onnx_file, workspace_mb=workspace_mb)
    assert left(tmp_path) == []


def test_measured_times_are_kept_for_the_next_build(world, onnx_file, tmp_path):
    cache = tmp_path / "cache"
    build(onnx_file, cache_folder=cache)
    build(onnx_file, cache_folder=cache)
    assert world.timings == 1
    assert [p.name for p in cache.iterdir()] == [f"timing-{world.version}-tesla-t4-7-5.cache"]


@pytest.mark.parametrize("content", [b"\0\0damaged", b"times of 8.6.1"])
def test_times_that_cannot_be_used_are_measured_again(world, onnx_file, tmp_path, content):
    cache = tmp_path / "cache"
    cache.mkdir()
    file = cache / f"timing-{world.version}-tesla-t4-7-5.cache"
    file.write_bytes(content)
    build(onnx_file, cache_folder=cache)
    assert world.timings == 1
    assert file.read_bytes() == f"times of {world.version}".encode()


def test_progress_is_told_for_outer_phases_only(world, onnx_file, tmp_path):
    told = []
    build_engine(
        onnx_file, graphs.describe(), tmp_path / "model.engine", on_step=lambda *step: told.append(step)
    )
    assert told == [("Building Engine", share) for share in (0.25, 0.5, 0.75, 1.0)]


def test_ctrl_c_stops_the_build_and_leaves_nothing(world, onnx_file, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    steps = []

    def press():
        steps.append(1)
        signal.raise_signal(signal.SIGINT)

    world.on_step = press
    with pytest.raises(Interrupted):
        build(onnx_file)
    assert len(steps) == 1
    assert signal.getsignal(signal.SIGINT) is before
    assert left(tmp_path) == ["model.engine.log"]


def test_a_failure_while_progress_is_told_comes_out_after_the_build(world, onnx_file, tmp_path):
    def broken(phase, share):
        raise BrokenPipeError("stderr is closed")

    with pytest.raises(BrokenPipeError):
        build_engine(onnx_file, graphs.describe(), tmp_path / "model.engine", on_step=broken)
    assert left(tmp_path) == ["model.engine.log"]


def test_without_a_gpu_the_bundle_is_named(world, onnx_file, tmp_path):
    world.gpu.fails["cudaGetDeviceCount"] = cudaError_t.cudaErrorNoDevice
    with pytest.raises(MissingError, match="no CUDA-capable device is detected") as failure:
        build(onnx_file)
    assert "--bundle DIR" in failure.value.hint
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("module", "word"),
    [("tensorrt", "tensorrt is not installed"), ("cuda.bindings.runtime", "cuda-python is not installed")],
)
def test_without_a_package_the_bundle_is_named(world, onnx_file, monkeypatch, module, word):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match=word) as failure:
        build(onnx_file)
    assert 'pip install "dfine-cli[tensorrt]"' in failure.value.hint
    assert "--bundle DIR" in failure.value.hint


def test_a_tensorrt_that_is_too_old_is_told(world, onnx_file):
    world.trt.__version__ = "8.6.1"
    with pytest.raises(MissingError, match=r"tensorrt 8\.6\.1 is installed, 10\.0 or newer"):
        build(onnx_file)


def test_a_tensorrt_that_cannot_use_the_driver_is_told(world, onnx_file):
    world.starts = False
    with pytest.raises(
        MissingError, match="TensorRT cannot start: CUDA initialization failure with error: 35"
    ):
        build(onnx_file)


def test_an_engine_is_built_without_cuda_python_where_that_is_allowed(world, onnx_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    built = build(onnx_file, without_facts=True, workspace_mb=64)
    assert "gpu" not in built.artefact.runtime
    assert "on a GPU that is not known" in built.summary()[0]
    with pytest.raises(UsageError, match="at least 1 MB"):
        build(onnx_file, without_facts=True, workspace_mb=0)
    with pytest.raises(MissingError, match="--device cuda:1 needs cuda-python"):
        build(onnx_file, without_facts=True, device="cuda:1")


def test_a_place_that_cannot_be_written_is_told(world, onnx_file, tmp_path):
    (tmp_path / "model.engine").mkdir()
    with pytest.raises(DfineError, match="cannot be written"):
        build(onnx_file)
    assert not (tmp_path / "model.engine.json").exists()


def test_a_place_that_cannot_be_made_is_told_before_the_build(world, onnx_file, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DfineError, match="cannot be written"):
        build_engine(onnx_file, graphs.describe(), tmp_path / "file" / "model.engine")
    assert world.timings == 0


def test_folders_on_the_way_are_made(world, onnx_file, tmp_path):
    out = tmp_path / "a" / "b" / "model.engine"
    assert build_engine(onnx_file, graphs.describe(), out).file == out


def test_the_engine_says_what_onnx_runtime_says(world, onnx_file):
    engine = open_plan(build(onnx_file).file)
    arrays = {"images": graphs.images(1), "orig_target_sizes": graphs.sizes_wh(1)}
    engine.load(arrays)
    engine.run()
    found = engine.read()
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    for port, expected in zip(session.get_outputs(), session.run(None, arrays), strict=True):
        np.testing.assert_array_equal(found[port.name], expected)
