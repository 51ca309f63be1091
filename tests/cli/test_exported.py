"""``dfine eval``, ``bench`` and ``visualize`` with exported files in place of a checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from dfine_cli.artefact import KEY
from dfine_cli.export.precision import convert
from tests.cli.conftest import Run
from tests.unit.backends.conftest import build, convert_to_openvino, description


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [("femto", 416, (0.3667, 0.5134, 0.3924)), ("atto", 320, (0.2750, 0.3999, 0.2851))],
)
def test_real_detectors_score_what_they_should(
    run: Run, shared: Path, name: str, size: int, expected: tuple[float, ...]
) -> None:
    model = shared / f"weights/deimv2_hgnetv2_{name}_coco.onnx"
    code, out, err = run(
        "eval", model, shared / "data/coco_open", "--input-size", size, "--out", "found.json", "--json"
    )
    assert code == 0, err
    metrics = json.loads(out)["metrics"]
    assert [round(metrics[key], 4) for key in ("AP", "AP50", "AP75")] == list(expected)
    assert len(json.loads(Path("found.json").read_text())) == 66 * 300


@pytest.mark.parametrize(("name", "size", "expected"), [("femto", 416, 36.67), ("atto", 320, 27.50)])
def test_half_precision_of_real_detectors_keeps_their_ap(
    run: Run, shared: Path, name: str, size: int, expected: float
) -> None:
    single = onnx.load(shared / f"weights/deimv2_hgnetv2_{name}_coco.onnx")
    half = convert(single, "fp16")
    assert half.found["weights"]["fp16"] > 0.99
    onnx.save(half.model, "half.onnx")
    code, out, err = run("eval", "half.onnx", shared / "data/coco_open", "--input-size", size, "--json")
    assert code == 0, err
    # In 66 pictures some classes have one object, which may gain a rank by luck; nothing may be lost.
    assert 100 * json.loads(out)["metrics"]["AP"] > expected - 0.1


@pytest.fixture
def animals(dataset: Path) -> tuple[Path, Path]:
    """A model that says that it finds cats and dogs, and data with both."""
    return write_model(dataset.parent / "animals.onnx"), dataset


def write_model(file: Path) -> Path:
    model = build()
    classes = {"names": ["cat", "dog"], "category_ids": [3, 7], "rule": "auto"}
    model.metadata_props.add(key=KEY, value=description(classes=classes).to_json())
    onnx.save(model, file)
    return file


NO_TORCH = """
import sys
from dfine_cli.cli.app import main

for words in {commands!r}:
    try:
        main(words)
    except SystemExit as stop:
        assert stop.code == 0, (words, stop.code)
    assert "torch" not in sys.modules, words
assert {runtime!r} in sys.modules
"""


@pytest.mark.parametrize(("suffix", "runtime"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_exported_files_run_without_torch(animals: tuple[Path, Path], suffix: str, runtime: str) -> None:
    model, data = animals
    if suffix == ".xml":
        model = convert_to_openvino(model)
    short = ["--runs", "2", "--warmup", "0", "--threads", "1"]
    commands = [
        ["eval", str(model), str(data), "--report", "report", "--sheet", "sheet.png"],
        ["visualize", str(model), str(data), "--out", "drawn"],
        ["visualize", str(model), str(data / "val"), "--to", "html", "--out", "page"],
        ["bench", str(model), "--data", str(data), "--out", "measured", *short],
    ]
    script = NO_TORCH.format(commands=commands, runtime=runtime)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=model.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list((model.parent / "measured").iterdir())) == 3
    assert "AP diff" in done.stdout


def test_predictions_go_beside_the_file(run: Run, animals: tuple[Path, Path]) -> None:
    model, data = animals
    code, out, err = run("eval", model, data, "--json")
    assert code == 0, err
    written = Path(json.loads(out)["predictions"])
    assert written == model.with_name("animals_val_predictions.json")
    assert {entry["category_id"] for entry in json.loads(written.read_text())} == {3, 7}


def test_pictures_begin_at_the_threshold_in_the_file(run: Run, animals: tuple[Path, Path]) -> None:
    code, _, err = run("visualize", *animals)
    assert code == 0 and "threshold 0.310: stored with the model by an evaluation" in err


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (("eval", "MODEL"), 2, "a model does not say which data to use", "DATA"),
        (("eval", "MODEL", "DATA", "--store-threshold"), 2, "has the threshold of its checkpoint", "export"),
        (
            ("eval", "MODEL", "DATA", "--input-size", "64"),
            2,
            "takes images of 32x64, not 64x64",
            "--input-size",
        ),
        (("eval", "MODEL", "DATA", "--classes", "MODEL"), 4, "not", ""),
        (("eval", "MODEL", "DATA", "--device", "cuda"), 3, "device 'cuda' is not there", "--device cpu"),
        (("bench", "MODEL", "--batch", "8"), 2, "takes 1 to 4 images in one pass, not 8", "--batch"),
        (("bench", "MODEL", "--backend", "eager"), 2, "not run by eager", "onnxruntime"),
        (("bench", "MODEL", "--estimate"), 2, "only checkpoints and sizes can be estimated", "checkpoint"),
    ],
)
def test_what_does_not_fit(
    run: Run, animals: tuple[Path, Path], words: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    model, data = animals
    names = {"MODEL": str(model), "DATA": str(data)}
    found, out, err = run(*(names.get(word, word) for word in words))
    lines = err.strip().splitlines()
    assert (found, out) == (code, "") and message in lines[-2] and hint in lines[-1]
    assert lines[-2].startswith("error: ") and lines[-1].startswith("hint: ")
    assert not list(model.parent.glob("*.part"))


@pytest.mark.parametrize("command", ["eval", "bench", "visualize"])
def test_a_truncated_file(run: Run, animals: tuple[Path, Path], command: str) -> None:
    model, data = animals
    model.write_bytes(model.read_bytes()[:300])
    code, out, err = run(command, model, *([] if command == "bench" else [data]))
    lines = err.strip().splitlines()
    assert (code, out) == (4, "")
    assert "animals.onnx: ONNX Runtime cannot load it" in lines[-2] and lines[-1].startswith("hint: ")


def test_an_interrupted_benchmark_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from dfine_cli.bench import plan

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "bench", interrupted)
    code, out, err = run("bench", "n", "--runs", 1)
    assert (code, out) == (130, "")
    assert err.strip().splitlines()[-2:] == [
        "error: interrupted: no report was written",
        "hint: for a quick look: --runs 20 --warmup 5, or fewer models",
    ]
    assert not Path("bench").exists()
