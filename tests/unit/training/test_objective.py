"""Objectives beside detection: their parameters are trained, clipped, saved and resumed."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from dfine_cli.config.schema import Recipe
from dfine_cli.errors import Interrupted
from dfine_cli.training.interrupt import StopRequest
from dfine_cli.training.monitor import Monitor
from dfine_cli.training.objective import Objective
from dfine_cli.training.run import set_up, train
from dfine_cli.training.run_dir import RunDir

MakeRecipe = Callable[..., Recipe]


class Towards(Objective):
    """Pulls a number of its own, and the mean of a feature map, towards three."""

    def __init__(self) -> None:
        self.own = nn.Parameter(torch.zeros(1))

    def trainable(self):
        return [self.own]

    def losses(self, batch, outputs):
        return {"loss_own": ((self.own + outputs.features.aifi.mean() - 3) ** 2).sum()}


def test_own_parameters_are_trained(make_recipe: MakeRecipe) -> None:
    objective = Towards()
    result = train(make_recipe(schedule={"epochs": 1}), objectives=[objective])
    assert objective.own.item() > 0
    assert result.rows[-1]["terms"]["loss_own"] > 0


def test_own_parameters_have_the_base_rate(make_recipe: MakeRecipe) -> None:
    objective, recipe = Towards(), make_recipe()
    *groups, last = set_up(recipe, Monitor(), [objective]).state.optimizer.param_groups
    assert [p is objective.own for p in last["params"]] == [True]
    assert last["peak_lr"] == recipe.optim.lr and last["weight_decay"] == recipe.optim.weight_decay
    plain = set_up(recipe, Monitor()).state.optimizer.param_groups
    assert [g["name"] for g in plain] == [g["name"] for g in groups]


def test_own_parameters_are_resumed(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, first, second = Towards(), Towards(), Towards()
    train(make_recipe(name="whole"), objectives=[whole])
    recipe = make_recipe(name="parts")
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "asked", True, raising=False)
        patch.setattr(StopRequest, "__init__", lambda self: None)
        with pytest.raises(Interrupted):
            train(recipe, objectives=[first])
    train(recipe, objectives=[second], resume=RunDir(recipe.run.folder / "parts"))
    assert first.own.item() != second.own.item() == whole.own.item()
