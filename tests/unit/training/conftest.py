from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dfine_cli.config.schema import Recipe
from dfine_cli.data.synthetic import write_dataset


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums in one order: what is compared to the last digit must not depend on other tests."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine training and four validation pictures of 64x64 pixels."""
    folder = tmp_path_factory.mktemp("toy")
    write_dataset(folder, train=9, val=4, size=(64, 64), seed=0)
    return folder


@pytest.fixture
def make_recipe(toy_data: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe for the toy data; sections given by name are merged in."""

    def make(**sections: Any) -> Recipe:
        values: dict[str, Any] = {
            "name": "toy",
            "size": "n",
            "data": {
                "train_json": toy_data / "annotations" / "instances_train.json",
                "train_images": toy_data / "train",
                "val_json": toy_data / "annotations" / "instances_val.json",
                "val_images": toy_data / "val",
                "input_size": (64, 64),
                "workers": 0,
            },
            "model": {"num_queries": 20, "num_denoising": 20},
            "optim": {"batch": 2, "lr": 1e-3, "groups": "clean"},
            "schedule": {"epochs": 2, "curve": "cosine", "warmup_share": 0.2, "refine_from": 0.5},
            "ema": {"share": 0.1},
            "run": {"folder": tmp_path / "runs", "device": "cpu"},
        }
        for name, knobs in sections.items():
            values[name] = {**values.get(name, {}), **knobs} if isinstance(knobs, dict) else knobs
        return Recipe(**values)

    return make
