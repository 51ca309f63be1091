"""Every shipped recipe takes two optimizer steps on a toy dataset."""

from pathlib import Path

import pytest
import torch

from dfine_cli.config.load import load_recipe
from dfine_cli.config.locate import recipe_names
from dfine_cli.data.synthetic import write_dataset
from dfine_cli.training.guard import Guard
from dfine_cli.training.loop import to_device, train_step
from dfine_cli.training.monitor import Monitor
from dfine_cli.training.run import set_up

RECIPES = [name for name in recipe_names() if "/" in name]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, train=4, val=1, size=(64, 64), seed=0)
    return folder


def test_all_recipes_are_here() -> None:
    assert len(RECIPES) == 15


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_takes_two_steps(name: str, data: Path, tmp_path: Path) -> None:
    overrides = {
        "data.train_json": data / "annotations" / "instances_train.json",
        "data.train_images": data / "train",
        "data.input_size": "[64, 64]",
        "data.workers": 0,
        "optim.batch": 2,
        "optim.nominal_batch": 2,
        "categories.remap": "auto",
        "run.device": "cpu",
        "start.weights": "null",  # which nobody has fetched
        "model.frozen_backbone": "false",
    }
    recipe = load_recipe(name, [f"{k}={v}" for k, v in overrides.items()]).recipe
    setup = set_up(recipe, Monitor())
    setup.state.model.train()
    before = {k: v.clone() for k, v in setup.state.model.state_dict().items()}
    guard, phase = Guard(tmp_path), setup.plan.phases.at(0)
    for batch in setup.loader.epoch(0, phase):
        losses = train_step(setup.state, setup.plan, guard, [to_device(batch, torch.device("cpu"))])
        assert torch.isfinite(losses["loss"])
    assert setup.state.ema.updates == 2
    after = setup.state.model.state_dict()
    assert not torch.equal(after["decoder.dec_score_head.0.bias"], before["decoder.dec_score_head.0.bias"])
    assert guard.skipped == 0
