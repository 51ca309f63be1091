"""Fixtures for the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from dfine_cli.cli.app import main
from dfine_cli.config.load import load_recipe
from dfine_cli.data.synthetic import write_dataset
from dfine_cli.training.run import train


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run ``dfine`` in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        assert isinstance(stop.value.code, int)
        return Outcome(stop.value.code, *capsys.readouterr())

    return call


def write_split(folder: Path, name: str, count: int, first: int = 0) -> None:
    """A COCO file ``annotations/instances_{name}.json`` and its grey images of 64x48 pixels."""
    (folder / name).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for i in range(first, first + count):
        file_name = f"{name}_{i}.png"
        cv2.imwrite(str(folder / name / file_name), np.full((48, 64, 3), i % 256, np.uint8))
        images.append({"id": i, "file_name": file_name, "height": 48, "width": 64})
        annotations.append(
            {
                "id": i,
                "image_id": i,
                "category_id": 3 + 4 * (i % 2),
                "bbox": [4, 4, 20, 30],
                "area": 600,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset with 40 training and 10 validation images."""
    folder = tmp_path / "My Pets"
    write_split(folder, "train", 40)
    write_split(folder, "val", 10, first=40)
    return folder


@pytest.fixture
def unsplit(tmp_path: Path) -> Path:
    """A dataset of 20 images without a validation split."""
    folder = tmp_path / "unsplit"
    write_split(folder, "train", 20)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set ``data`` and a run ``toy`` of one step on it."""
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(folder / "data", train=2, val=3, size=(64, 64), seed=0)
    settings = {
        "data.train_json": folder / "data/annotations/instances_train.json",
        "data.train_images": folder / "data/train",
        "data.val_json": folder / "data/annotations/instances_val.json",
        "data.val_images": folder / "data/val",
        "data.input_size": [64, 64],
        "data.workers": 0,
        "model.num_queries": 20,
        "schedule.epochs": 1,
        "optim.batch": 2,
        "optim.nominal_batch": 2,
        "evaluation.weights": "ema",
        "run.folder": folder,
        "run.device": "cpu",
        "name": "toy",
    }
    train(load_recipe("finetune/n", [f"{k}={v}" for k, v in settings.items()]).recipe)
    return folder
