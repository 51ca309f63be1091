"""A recipe as one flat commented YAML file that reads back as the same recipe."""

import os
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from dfine_cli.config.keys import flatten, help_of
from dfine_cli.config.schema import Recipe
from dfine_cli.config.yaml12 import render_value
from dfine_cli.errors import cannot_write
from dfine_cli.whole_file import whole_file

_WIDTH = 110
_COMMENT_COLUMN = 34


def write_recipe(recipe: Recipe, path: Path, reasons: Mapping[str, str] | None = None) -> None:
    """Write every key of a recipe with its meaning; the file is complete or not there.

    Data paths are written relative to the file, unless nothing but the root is common to both.

    Args:
        recipe: What to write.
        path: The file; its folder is made.
        reasons: Why a value was chosen, by dotted key; written above it.

    Raises:
        DfineError: It cannot be written.
    """
    try:
        with whole_file(path) as part:
            part.write_text(_render(recipe, path, reasons or {}), encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error, "choose another place, or free some space") from error


def _render(recipe: Recipe, path: Path, reasons: Mapping[str, str]) -> str:
    lines = [f"# dfine train {path.name}"]
    for section, keys in groupby(flatten(recipe).items(), lambda item: item[0].rpartition(".")[0]):
        if section:
            lines += ["", f"{section}:  # {help_of(section)}"]
        for key, value in keys:
            lines += _entry(key, _portable(key, value, path.parent), reasons.get(key, ""))
    return "\n".join([*lines, ""])


def _entry(key: str, value: Any, reason: str) -> list[str]:
    section, _, name = key.rpartition(".")
    indent = "  " if section else ""
    line = f"{indent}{name}: {render_value(value)}"
    comment = f"# {help_of(key)}"
    above = [f"{indent}# chosen: {' '.join(reason.split())}"] if reason else []
    beside = f"{line:<{_COMMENT_COLUMN}}  {comment}"
    if len(beside) <= _WIDTH:
        return [*above, beside]
    return [f"{indent}{comment}", *above, line]


def _portable(key: str, value: Any, folder: Path) -> Any:
    if not isinstance(value, Path):
        return value
    if not key.startswith("data."):
        return value.as_posix()
    target, start = os.path.abspath(value), os.path.abspath(folder)  # noqa: PTH100 keeps symlinks
    try:
        common = Path(os.path.commonpath((target, start)))
    except ValueError:  # another drive
        common = Path(target).parents[-1]
    if common == Path(common.anchor):
        return Path(target).as_posix()
    return Path(os.path.relpath(target, start)).as_posix()
