"""The examples run, at toy size."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from dfine_cli.data.synthetic import write_dataset

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.lstrip("0123456789_"), EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_train_and_predict_from_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    write_dataset(data, train=4, val=2, size=(64, 64), seed=0)
    settings = ("data.input_size=[64, 64]", "data.workers=0", "schedule.epochs=1", "optim.batch=2")
    run = load("01_train_from_python").main(data, *settings, f"run.folder={tmp_path}", "run.device=cpu")
    assert "epoch 1: loss" in capsys.readouterr().out
    picture = next((data / "val").iterdir())
    count = load("03_predict").main(run, picture, tmp_path / "out.png", threshold=0.0)
    assert 0 < count <= 300
    assert Image.open(tmp_path / "out.png").size == (64, 64)


def test_train_with_an_objective_of_ones_own(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, train=4, val=1, size=(64, 64), seed=0)
    settings = ("data.input_size=[64, 64]", "data.workers=0", "schedule.epochs=2", "optim.batch=2")
    result = load("02_custom_objective").main(data, *settings, f"run.folder={tmp_path}", "run.device=cpu")
    counted = [row["terms"]["loss_count"] for row in result.rows]
    assert 0 < counted[1] != counted[0] > 0


def test_examples_are_short() -> None:
    files = list(EXAMPLES.glob("*.py"))
    assert len(files) == 3
    assert all(len(file.read_text().splitlines()) < 80 for file in files)
