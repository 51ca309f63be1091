"""``--show``: every value of a recipe with its origin."""

from typing import TYPE_CHECKING

from dfine_cli.cli.console import print_json, print_table, say

if TYPE_CHECKING:
    from dfine_cli.config.load import Resolved


def show_recipe(resolved: "Resolved", as_json: bool = False) -> None:
    """Print key, value and origin of every value: a table, or with ``as_json`` one object."""
    from dfine_cli.config.keys import flatten
    from dfine_cli.config.yaml12 import render_value

    values = flatten(resolved.recipe)
    if as_json:
        recipe = resolved.recipe.model_dump(mode="json")
        print_json({"recipe": recipe, "origins": resolved.origins, "notes": resolved.notes})
        return
    tell_notes(resolved)
    print_table([(key, render_value(value), resolved.origins[key]) for key, value in values.items()])


def tell_notes(resolved: "Resolved") -> None:
    """Say what was understood in another way than it was written."""
    for note in resolved.notes:
        say(f"note: {note}")
