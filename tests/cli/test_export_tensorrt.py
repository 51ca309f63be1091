"""``dfine export --format tensorrt``: an engine where that is possible, a bundle everywhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dfine_cli.artefact import read_sidecar
from tests.cli.conftest import Run
from tests.unit.tensorrt.conftest import install, make_world
from tests.unit.tensorrt.simulation import World


@pytest.fixture
def machine(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """A machine with TensorRT, and a cache of its own."""
    world = make_world(shared / "tensorrt", "10.13.3.9")
    install(monkeypatch, world)
    monkeypatch.setenv("DFINE_HOME", str(tmp_path / "home"))
    return world


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without TensorRT."""
    for name in ("tensorrt", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)


def export(run: Run, trained: Path, *words: object):
    return run("export", trained / "toy", "--format", "tensorrt", *words)


def test_an_engine_is_built_proven_and_usable(run: Run, machine: World, trained: Path, tmp_path: Path):
    done = export(run, trained, "--out", "toy.engine", "--workspace", 256, "--batch", "1,2,3", "--json")
    assert done.code == 0, done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "home",
        "toy.engine",
        "toy.engine.json",
        "toy.engine.log",
    ]
    found = json.loads(done.out)
    assert found["proof"]["holds"] and found["proof"]["missed"] == 0
    assert "TensorRT 10.13.3.9 on Tesla T4" in done.err and "toy.engine.log" in done.err
    artefact = read_sidecar(Path("toy.engine"))
    assert artefact is not None and artefact.batch == (1, 2, 3)
    assert artefact.runtime["workspace_mb"] == 256 and artefact.runtime["layer_types"]["fp32"] > 0
    assert list((tmp_path / "home" / "tensorrt").iterdir())
    scored = run("eval", "toy.engine", trained / "data", "--json")
    assert scored.code == 0, scored.err
    assert json.loads(scored.out)["metrics"]["AP"] == pytest.approx(found["proof"]["ap_artefact"])


def test_an_engine_is_built_for_and_proven_on_the_gpu_that_was_named(run: Run, machine: World, trained: Path):
    machine.gpu.count = 2
    done = export(run, trained, "--out", "toy.engine", "--device", "cuda:1")
    assert done.code == 0, done.err
    assert machine.gpu.current == 1  # the proof came last


def test_a_failed_build_keeps_its_log_alone(run: Run, machine: World, trained: Path, tmp_path: Path):
    machine.build_error = "Error Code 2: OutOfMemory"
    done = export(run, trained, "--out", "toy.engine")
    assert done.code == 1
    assert done.err.splitlines()[-2].startswith("error: ") and "no memory left" in done.err.splitlines()[-2]
    assert done.err.splitlines()[-1].startswith("hint: ") and "toy.engine.log" in done.err.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["toy.engine.log"]


def test_without_tensorrt_it_says_so_at_once_and_names_the_bundle(
    run: Run, without: None, trained: Path, tmp_path: Path
):
    done = export(run, trained)
    assert done.code == 3
    assert done.err.splitlines() == [
        "error: tensorrt is not installed",
        'hint: pip install "dfine-cli[tensorrt]"; or --bundle DIR, which writes all that a machine with TensorRT '
        "and a GPU needs to build it",
    ]


def test_a_bundle_is_written_without_tensorrt(run: Run, without: None, trained: Path):
    done = export(
        run, trained, "--bundle", "carry", "--precision", "fp16", "--max-ap-drop", 100, "--workspace", 7
    )
    assert done.code == 0, done.err
    assert {p.name for p in Path("carry").iterdir()} == {
        "README.txt",
        "build.py",
        "dfine_cli",
        "dfine-n-fp16.onnx",
        "dfine-n-fp16.onnx.json",
        "sample.npz",
        "trtexec.sh",
    }
    assert "python build.py" in done.err.splitlines()[-1]
    artefact = read_sidecar(Path("carry", "dfine-n-fp16.onnx"))
    assert artefact is not None and artefact.runtime["proof"]["images"] == 3
    assert artefact.runtime["workspace_mb"] == 7
    assert "--memPoolSize=workspace:7M" in Path("carry", "trtexec.sh").read_text()
    with np.load("carry/sample.npz") as sample:
        assert sample["input.orig_target_sizes"].tolist() == [[64, 64]]
        assert sample["input.images"].std() > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "onnx", "--bundle", "carry"), "--bundle goes with --format tensorrt only"),
        (("--workspace", 64, "--format", "openvino"), "--workspace goes with --format tensorrt only"),
        (("--workspace", 0), "workspace of 0 MB: must be 1 to 15360 MB"),
        (("--workspace", 0, "--bundle", "carry"), "workspace of 0 MB: must be at least 1 MB"),
        (("--format", "onnx", "--device", "cuda"), "--device goes with --format tensorrt only"),
        (("--bundle", "carry", "--out", "x.engine"), "--out does not go with --bundle"),
        (("--bundle", "carry", "--device", "cuda:3"), "--device does not go with --bundle"),
        (("--bundle", "carry", "--force"), "--force does not go with --bundle"),
        (("--bundle", "other"), "other.failed: is there already and not empty"),
        (("--device", "cpu"), "TensorRT runs on a GPU of NVIDIA only"),
        (("--out", "model.onnx"), "must end with .engine"),
        (("--bundle", "full"), "full: is there already and not empty"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Run, machine: World, trained: Path, words: tuple[object, ...], message: str
):
    Path("other.failed").mkdir()
    Path("other.failed", "notes.txt").touch()
    Path("full").mkdir()
    Path("full", "notes.txt").touch()
    done = export(run, trained, *words)
    assert done.code == 2
    assert message in done.err.splitlines()[-2]
