"""The folder that is carried to a machine with a GPU: whole, self-contained, and checked there."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dfine_cli
from dfine_cli.artefact import read_sidecar, sidecar_of
from dfine_cli.errors import DfineError, UsageError
from dfine_cli.export.bundle import CARRIED, COMMANDS, SCRIPT, is_untouched, trtexec_script, write_bundle
from dfine_cli.export.engine_format import EnginePlan, write_carried
from dfine_cli.export.proof_images import ProofImages
from tests.unit.tensorrt import graphs
from tests.unit.tensorrt.conftest import VERSIONS

PACKAGE = Path(dfine_cli.__file__).parent
ROOT = PACKAGE.parent
MACHINE = """
import sys
from pathlib import Path
here = list(sys.path)
sys.path.append({root!r})
from tests.unit.tensorrt import conftest
world = conftest.make_world(Path({shared!r}), {version!r})
world.build_warning = "a warning"
{change}
sys.modules["cuda.bindings.runtime"] = world.gpu.module() if {cuda} else None
sys.modules["cuda.cudart"] = None
for name in [n for n in sys.modules if n.partition(".")[0] == "dfine_cli"]:
    del sys.modules[name]
sys.path[:] = here
sys.modules["tensorrt"] = world.trt
for name in ("torch", "onnx", "PIL", "scipy"):
    sys.modules[name] = None
"""
"""A `sitecustomize` module that makes an interpreter one on a machine with TensorRT."""


@pytest.fixture
def onnx_file(tmp_path):
    return graphs.write(tmp_path / "model.onnx", graphs.describe((1, 2, 4)))


@pytest.fixture
def bundle(onnx_file, tmp_path):
    images = (graphs.images(3) * 255).astype(np.uint8)
    return write_bundle(
        onnx_file, read_sidecar(onnx_file), tmp_path / "bundle", images, [(480, 640), (100, 50), (32, 64)]
    )


@pytest.fixture
def run(bundle, shared, tmp_path):
    """Runs build.py in an interpreter of its own, on a machine with a release of TensorRT."""

    def script(*words, version="10.13.3.9", change="", cuda=True):
        machine = tmp_path / "machine"
        machine.mkdir(exist_ok=True)
        text = MACHINE.format(
            root=str(ROOT), shared=str(shared / "tensorrt"), version=version, change=change, cuda=cuda
        )
        (machine / "sitecustomize.py").write_text(text)
        environment = {**os.environ, "PYTHONPATH": str(machine)}
        return subprocess.run(
            [sys.executable, str(bundle / "build.py"), *words],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            timeout=120,
        )

    return script


def test_everything_is_there(bundle):
    assert sorted(p.name for p in bundle.iterdir()) == [
        "README.txt",
        "build.py",
        "dfine_cli",
        "model.onnx",
        "model.onnx.json",
        "sample.npz",
        "trtexec.sh",
    ]
    assert read_sidecar(bundle / "model.onnx") == graphs.describe((1, 2, 4))
    assert "model.engine" in (bundle / "README.txt").read_text()
    assert not bundle.with_name("bundle.part").exists()


@pytest.mark.parametrize("name", [*CARRIED, SCRIPT])
def test_what_is_carried_needs_only_what_is_carried_numpy_and_tensorrt(name):
    known = {f"dfine_cli.{Path(n).with_suffix('').as_posix().replace('/', '.')}" for n in CARRIED}
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        else:
            continue
        for found in names:
            top = found.partition(".")[0]
            assert found in known or top == "numpy" or top in sys.stdlib_module_names, found


def test_the_sample_is_what_the_graph_takes_and_what_onnx_runtime_gives(bundle):
    import onnxruntime

    with np.load(bundle / "sample.npz") as sample:
        arrays = dict(sample)
    fed = {name.removeprefix("input."): a for name, a in arrays.items() if name.startswith("input.")}
    assert fed["images"].shape == (2, 3, *graphs.SIZE) and fed["images"].dtype == np.float32
    assert fed["images"].max() <= 1
    assert fed["orig_target_sizes"].tolist() == [[640, 480], [50, 100]]  # width, height
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    for port, expected in zip(session.get_outputs(), session.run(None, fed), strict=True):
        np.testing.assert_array_equal(arrays[f"output.{port.name}"], expected)


def test_without_images_a_pattern_is_drawn(onnx_file, tmp_path):
    bundle = write_bundle(onnx_file, read_sidecar(onnx_file), tmp_path / "other")
    with np.load(bundle / "sample.npz") as sample:
        assert sample["input.images"].shape == (2, 3, *graphs.SIZE)
        assert sample["input.images"].std() > 0.1


@pytest.mark.parametrize("version", VERSIONS)
def test_the_script_builds_and_checks_on_a_machine_with_nothing_else(run, bundle, version):
    done = run(version=version)
    assert done.returncode == 0, done.stderr
    assert f"TensorRT {version} on Tesla T4" in done.stdout
    assert (
        "checked: 6 detections as in ONNX Runtime, scores within 0.0000, edges within 0.00 pixels"
        in done.stdout
    )
    built = read_sidecar(bundle / "model.engine")
    assert built is not None and built.runtime["tensorrt"] == version and built.runtime["gpu"] == "Tesla T4"
    assert "a warning" in (bundle / "model.engine.log").read_text()
    assert list((bundle / "timing").iterdir())


def test_the_script_builds_without_cuda_python_and_says_that_nothing_was_checked(run, bundle):
    done = run(cuda=False)
    assert done.returncode == 3
    assert "NOT CHECKED: cuda-python is not installed" in done.stderr
    assert (bundle / "model.engine").is_file()
    assert run("--no-check", cuda=False).returncode == 0


def test_the_script_refuses_an_engine_that_says_something_else(run, bundle):
    with np.load(bundle / "sample.npz") as sample:
        arrays = dict(sample)
    arrays["output.scores"] = arrays["output.scores"] * 0.9
    np.savez_compressed(bundle / "sample.npz", **arrays)
    done = run()
    assert done.returncode == 4
    assert "error: the engine does not say what ONNX Runtime says" in done.stderr
    assert "hint: do not use it" in done.stderr


def test_the_script_tells_failures_in_two_lines(run):
    done = run(change="world.refused = {'TopK'}")
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]
    done = run("--workspace", "0")
    assert (done.returncode, "workspace of 0 MB" in done.stderr) == (2, True)


def test_the_script_builds_with_the_workspace_of_the_export(run, bundle):
    described = sidecar_of(bundle / "model.onnx")
    known = json.loads(described.read_text())
    described.write_text(json.dumps({**known, "runtime": {"workspace_mb": 7}}))
    assert run("--no-check").returncode == 0
    assert read_sidecar(bundle / "model.engine").runtime["workspace_mb"] == 7


def test_a_failed_bundle_gives_way_to_the_next_if_nothing_was_added(onnx_file, bundle, tmp_path):
    artefact, plan = read_sidecar(onnx_file), EnginePlan(bundle=tmp_path / "new")
    pictures = ProofImages(None, "drawn", 8)
    for _ in range(2):
        failed = write_carried(onnx_file, artefact, plan, pictures, failed=True)
        assert failed.name == "new.failed" and is_untouched(failed)
        plan.check("tensorrt", None, False)
    write_carried(onnx_file, artefact, plan, pictures, failed=False)
    assert not failed.exists() and is_untouched(plan.bundle)
    (bundle / "model.engine").touch()
    assert not is_untouched(bundle)


def test_the_commands_are_a_script_with_the_shapes_of_the_profile(bundle):
    subprocess.run(["sh", "-n", bundle / COMMANDS], check=True, timeout=10)
    build, measure = commands((bundle / COMMANDS).read_text())
    assert build[0] == measure[0] == "trtexec"
    assert {
        "--onnx=model.onnx",
        "--saveEngine=model.engine",
        "--stronglyTyped",
        "--minShapes=images:1x3x32x64,orig_target_sizes:1x2",
        "--optShapes=images:2x3x32x64,orig_target_sizes:2x2",
        "--maxShapes=images:4x3x32x64,orig_target_sizes:4x2",
    } <= set(build)
    assert not {"--fp16", "--int8", "--best"} & set(build)
    assert {"--loadEngine=model.engine", "--shapes=images:2x3x32x64,orig_target_sizes:2x2"} <= set(measure)


def test_a_fixed_graph_is_given_no_shapes():
    text = trtexec_script("model.onnx", graphs.describe((2, 2, 2), "end2end"))
    assert "hapes" not in text


def commands(text):
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line and not line.startswith("#")]


def test_a_folder_with_something_in_it_is_left_alone(onnx_file, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_bundle(onnx_file, read_sidecar(onnx_file), folder)
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(onnx_file, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_bundle(onnx_file, read_sidecar(onnx_file), folder)
    assert (folder / "build.py").is_file()


def test_a_graph_that_does_not_run_leaves_nothing(onnx_file, tmp_path):
    artefact = read_sidecar(onnx_file)
    onnx_file.write_bytes(b"\x08\x08nonsense")
    with pytest.raises(DfineError, match="ONNX Runtime cannot run it"):
        write_bundle(onnx_file, artefact, tmp_path / "deep" / "bundle")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_place_that_cannot_be_made_is_told(onnx_file, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DfineError, match="cannot be written"):
        write_bundle(onnx_file, read_sidecar(onnx_file), tmp_path / "file" / "bundle")
