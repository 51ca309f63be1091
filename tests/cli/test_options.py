"""Flags as overrides of a recipe."""

import pytest

from dfine_cli.cli.options import parse_input_size, to_overrides
from dfine_cli.config.load import load_recipe
from dfine_cli.errors import UsageError


def test_flags_keep_their_type_and_sets_come_last() -> None:
    flags = {
        "name": "1e-4",
        "run.device": "cuda:1",
        "schedule.epochs": 3,
        "data.input_size": [64, 96],
        "run.seed": None,
    }
    recipe = load_recipe("coco/n", to_overrides(flags, ["schedule.epochs=4"])).recipe
    assert (recipe.name, recipe.run.device, recipe.schedule.epochs) == ("1e-4", "cuda:1", 4)
    assert recipe.data.input_size == (64, 96)


@pytest.mark.parametrize(
    ("text", "size"), [(None, None), ("320", [320, 320]), ("384,640", [384, 640]), ("384x640", [384, 640])]
)
def test_input_size(text: str | None, size: list[int] | None) -> None:
    assert parse_input_size(text) == size


@pytest.mark.parametrize("text", ["", "a", "1,2,3", "-32", "320,", "3.5"])
def test_input_size_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="must be one number or height,width"):
        parse_input_size(text)
