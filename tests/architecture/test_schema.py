"""The schema says everything about itself, and agrees with the tables of the code."""

from typing import get_args

import pytest

from dfine_cli.config.keys import KEYS, SECTIONS, help_of
from dfine_cli.config.schema import Categories, Loss, Optim, Recipe, Schedule, SizeName, Start
from dfine_cli.data.classes import Remap
from dfine_cli.losses.classification import CLASSIFICATION
from dfine_cli.model.sizes import SIZES
from dfine_cli.training.freeze import FROZEN
from dfine_cli.training.lr import CURVES
from dfine_cli.training.optimizer import GROUPS


@pytest.mark.parametrize("key", [*KEYS, *SECTIONS])
def test_every_key_says_what_it_means(key: str) -> None:
    text = help_of(key)
    assert text.endswith(".") and len(text) <= 120, text


def test_all_values_are_keys() -> None:
    leaves = {
        f"{name}.{inner}" if isinstance(value, dict) else name
        for name, value in Recipe().model_dump().items()
        for inner in (value if isinstance(value, dict) else [name])
    }
    assert leaves == set(KEYS)


@pytest.mark.parametrize(
    ("choices", "table"),
    [
        (Loss.model_fields["classification"].annotation, CLASSIFICATION),
        (Schedule.model_fields["curve"].annotation, CURVES),
        (Optim.model_fields["groups"].annotation, GROUPS),
        (SizeName, SIZES),
        (Categories.model_fields["remap"].annotation, get_args(Remap)),
        (Start.model_fields["freeze"].annotation, FROZEN),
    ],
    ids=["loss.classification", "schedule.curve", "optim.groups", "size", "categories.remap", "start.freeze"],
)
def test_choices_are_the_keys_of_the_table(choices: object, table: object) -> None:
    assert get_args(choices) == tuple(table)  # type: ignore[call-overload]
