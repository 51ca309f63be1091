"""From a recipe file and ``--set`` options to a validated Recipe, and where each value came from.

A file may name one parent with ``extends``. Files and options are read as layers of dotted keys, nearest
last; a later layer replaces single keys of an earlier one. Every mistake of all layers is told at once.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dfine_cli.config.keys import KEYS, SECTIONS, flatten
from dfine_cli.config.locate import display_name, find_recipe
from dfine_cli.config.schema import LONGEST_SIDE, SIDE_STEP, Recipe
from dfine_cli.config.yaml12 import parse_value, read_yaml, render_value
from dfine_cli.errors import UsageError

MOST_PARENTS = 3
_WEIGHTS_NAME = re.compile(r"(?:[nsmlx]|b\d)/[^./\\]+", re.IGNORECASE)
_DATA_PATHS = ("data.train_json", "data.train_images", "data.val_json", "data.val_images")
_OLD_REMAP = ("remap_mscoco_category", "data.remap_mscoco_category")
_FORMS = {  # of texts that are not free
    "name": "must be a plain name: letters, digits, and _ . + - inside",
    "run.device": "must be auto, or a kind of device and perhaps its number, such as cpu, cuda, cuda:1, mps",
}
_NOT_KEYS = {"num_classes": "the classes are read from the annotation file; leave it out"}


class Override(str):
    """A ``key=value`` text that was not written as ``--set``; messages and ``--show`` name its origin instead.

    Args:
        text: As for ``--set``.
        origin: Where it comes from: a flag, or what chose it.
    """

    origin: str

    def __new__(cls, text: str, origin: str) -> "Override":
        """The text, with its origin."""
        override = super().__new__(cls, text)
        override.origin = origin
        return override


@dataclass(frozen=True)
class Resolved:
    """A recipe with its history.

    Args:
        recipe: The validated values.
        origins: ``file:line``, a flag such as ``--set``, what chose it, or ``default``, for every key.
        notes: What was understood in another way than it was written.
    """

    recipe: Recipe
    origins: dict[str, str]
    notes: list[str]


class Value(NamedTuple):
    """What a layer says about a key."""

    value: Any
    origin: str


@dataclass
class _Layer:
    """Values of one file or of the options, by dotted key."""

    values: dict[str, Value]
    folder: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Resolved:
    """Read a recipe, its parents and overrides, and validate the result.

    Relative paths of the data section start at the file that names them, those of overrides at the current
    folder; they come out absolute.

    Args:
        source: Name of a shipped recipe (``coco/s``) or path of a file.
        overrides: ``key=value`` texts, the value in YAML; the last one counts. ``Override`` has another origin.

    Raises:
        UsageError: With one line per mistake, or the file is missing or not YAML.
    """
    options = _read_overrides(overrides)
    layers = [*_read_chain(source, _version_of(options)), options]
    for layer in layers:
        _translate_remap(layer)
        _resolve_paths(layer)
        _refuse_unknown(layer)
    values = {k: v for layer in layers for k, v in layer.values.items()}
    problems = [p for layer in layers for p in layer.problems]
    recipe, invalid = _validate(values, display_name(find_recipe(source)))
    problems += invalid
    if recipe is None or problems:
        raise UsageError("\n".join(problems), "all keys and their values: dfine train coco/s --show")
    origins = {k: values[k].origin if k in values else "default" for k in KEYS}
    return Resolved(recipe, origins, [n for layer in layers for n in layer.notes])


def adjust(resolved: Resolved, values: Mapping[str, Any], origin: str) -> Resolved:
    """The same recipe with other values.

    Args:
        resolved: The recipe.
        values: By dotted key.
        origin: Where they come from.

    Raises:
        UsageError: A value is not valid.
    """
    all_values = {k: Value(v, resolved.origins[k]) for k, v in flatten(resolved.recipe).items()}
    all_values |= {k: Value(v, origin) for k, v in values.items()}
    recipe, problems = _validate(all_values, resolved.recipe.name)
    if recipe is None:
        raise UsageError("\n".join(problems), "all keys and their values: dfine train coco/s --show")
    return Resolved(recipe, {**resolved.origins, **dict.fromkeys(values, origin)}, resolved.notes)


def _version_of(layer: _Layer) -> str | None:
    """The version that a layer names; whether there is such a version is for the schema to say."""
    value = layer.values.get("version")
    return str(value.value) if value else None


def _read_chain(source: str | Path, version: str | None) -> list[_Layer]:
    """The file and its parents, furthest first; the nearest version that is named is that of all parents."""
    layers: list[_Layer] = []
    seen: list[Path] = []
    path = find_recipe(source, version=version)
    while True:
        if path.resolve() in seen:
            chain = " -> ".join(display_name(p) for p in [*seen, path.resolve()])
            raise UsageError(f"`extends` goes round in a circle: {chain}", "remove one of them")
        seen.append(path.resolve())
        if len(seen) > MOST_PARENTS + 1:
            raise UsageError(
                f"{display_name(seen[0])}: more than {MOST_PARENTS} parents follow each other by `extends`",
                "write the values into one file: dfine init does",
            )
        layer, parent = _read_file(path)
        layers.insert(0, layer)
        version = version or _version_of(layer)
        if parent is None:
            return layers
        if not isinstance(parent.value, str):
            raise UsageError(
                f"{parent.origin}: `extends` = {render_value(parent.value)}: must be one name or path",
                "for example `extends: coco/s`",
            )
        try:
            path = find_recipe(parent.value, path.parent, version)
        except UsageError as error:
            raise UsageError(f"{parent.origin}: `extends`: {error.message}", error.hint) from None


def _read_file(path: Path) -> tuple[_Layer, Value | None]:
    """The layer of a file and what it extends."""
    name = display_name(path)
    try:
        content, lines = read_yaml(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(f"{name}: not a text file", "give a recipe in YAML") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{name}{_explain(error)}", "check indentation, colons and quotes there") from None
    if content is None:
        raise UsageError(f"{name}: the file is empty", "write at least `extends: scratch/n`")
    if not isinstance(content, dict):
        raise UsageError(f"{name}:1: a recipe is a mapping of keys to values", "for example `size: n`")
    values = {k: Value(v, f"{name}:{lines[k]}") for k, v in _flatten(content).items()}
    parent = values.pop("extends", None)
    return _Layer(values, path.parent), parent


def _explain(error: yaml.YAMLError) -> str:
    """``:line:column: not valid YAML: what``, as far as it is known."""
    mark = getattr(error, "problem_mark", None)
    where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return f"{where}: not valid YAML: {problem}"


def _flatten(content: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key; an empty section holds nothing."""
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            leaves.update(_flatten(value, f"{name}."))
        elif not (name in SECTIONS and value in (None, {})):
            leaves[name] = value
    return leaves


def _read_overrides(overrides: Sequence[str]) -> _Layer:
    layer = _Layer({}, Path.cwd())
    for text in overrides:
        origin = text.origin if isinstance(text, Override) else "--set"
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            layer.problems.append(f"--set {text}: must be key=value, for example optim.lr=3e-4")
            continue
        try:
            parsed = parse_value(value)
        except yaml.YAMLError as error:
            layer.problems.append(f"{origin} {text}{_explain(error)}")
            continue
        given = _flatten({key.strip(): parsed})
        layer.values.update({k: Value(v, origin) for k, v in given.items()})
    return layer


def _translate_remap(layer: _Layer) -> None:
    """Understand the toggle of the published code."""
    for key in _OLD_REMAP:
        if key not in layer.values:
            continue
        value, origin = layer.values.pop(key)
        if not isinstance(value, bool):
            layer.problems.append(f"{origin}: `{key}` = {render_value(value)}: must be true or false")
        elif "categories.remap" in layer.values:
            layer.problems.append(f"{origin}: `{key}` and `categories.remap` say the same; keep the second")
        else:
            remap = "coco80" if value else "none"
            layer.values["categories.remap"] = Value(remap, origin)
            layer.notes.append(
                f"{origin}: {key}: {render_value(value)} is read as categories: {{remap: {remap}}}"
            )


def _resolve_paths(layer: _Layer) -> None:
    for key in _DATA_PATHS:
        value, origin = layer.values.get(key, (None, ""))
        if isinstance(value, str) and value:
            absolute = os.path.abspath(layer.folder / Path(value).expanduser())  # noqa: PTH100 keeps symlinks
            layer.values[key] = Value(absolute, origin)
    weights, origin = layer.values.get("start.weights", (None, ""))
    if isinstance(weights, str) and is_weights_path(weights):
        absolute = os.path.abspath(layer.folder / Path(weights).expanduser())  # noqa: PTH100 keeps symlinks
        layer.values["start.weights"] = Value(absolute, origin)


def is_weights_path(text: str) -> bool:
    """Whether a value of ``start.weights`` is a path; otherwise it is the name of published weights."""
    return not _WEIGHTS_NAME.fullmatch(text)


def _refuse_unknown(layer: _Layer) -> None:
    """Move keys that the schema does not have from the values to the problems."""
    for key in [k for k in layer.values if k not in KEYS]:
        value, origin = layer.values.pop(key)
        if key in SECTIONS:
            text = f"`{key}` = {render_value(value)}: is a section; write its keys below it"
        elif note := _NOT_KEYS.get(key.rpartition(".")[2]):
            text = f"unknown key `{key}`: {note}"
        else:
            text = f"unknown key `{key}`{_near_miss(key)}"
        layer.problems.append(f"{origin}: {text}")


def _near_miss(key: str) -> str:
    """The nearest key: in the same section, else of the same name in another one, else anywhere."""
    section, _, name = key.rpartition(".")
    siblings = {k.rpartition(".")[2]: k for k in [*KEYS, *SECTIONS] if k.rpartition(".")[0] == section}
    named = {k.rpartition(".")[2]: k for k in reversed(KEYS)}
    if near := get_close_matches(name, siblings, n=1):
        return f" - did you mean `{near[0]}`?"
    if name in named:
        return f" - did you mean `{named[name]}`?"
    near = get_close_matches(key, KEYS, n=1) or [named[n] for n in get_close_matches(name, named, n=1)]
    return f" - did you mean `{near[0]}`?" if near else ""


def _validate(values: dict[str, Value], name: str) -> tuple[Recipe | None, list[str]]:
    """The recipe, or what is wrong with it; strict JSON mode takes no text for a number and no true for 1."""
    nested: dict[str, Any] = {}
    for key, (value, _) in values.items():
        section, _, inner = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[inner] = value
    try:
        return Recipe.model_validate_json(json.dumps(nested, default=str), strict=True), []
    except ValidationError as error:
        told = [_tell(e, values, name) for e in error.errors()]
        return None, list(dict.fromkeys(told))  # both sides of a size may have the same fault


def _tell(error: ErrorDetails, values: dict[str, Value], name: str) -> str:
    loc, kind = error["loc"], error["type"]
    key = ".".join(str(part) for part in loc[:2] if isinstance(part, str))
    message = error["msg"].removeprefix("Value error, ")
    if key not in values:
        return f"{name}: {message}"
    value, origin = values[key]
    if kind == "multiple_of" and key == "data.input_size":
        message = f"{error['input']} is not a multiple of {SIDE_STEP}; {_nearest_sides(error['input'])}"
    if kind in ("tuple_type", "missing", "too_long") and KEYS[key].default is not None:
        message = f"must be a list such as {render_value(KEYS[key].default)}"
    if kind == "string_pattern_mismatch":
        message = _FORMS[key]
    if kind == "literal_error" and not isinstance(value, str) and f"'{value}'" in message:
        message += ", in quotes"
    return f"{origin}: `{key}` = {render_value(value)}: {message}"


def _nearest_sides(side: int) -> str:
    """The legal sizes of an input around one that is not."""
    low = side // SIDE_STEP * SIDE_STEP
    legal = [str(s) for s in (low, low + SIDE_STEP) if SIDE_STEP <= s <= LONGEST_SIDE]
    return f"near it are {' and '.join(legal)}" if legal else f"the largest is {LONGEST_SIDE}"
