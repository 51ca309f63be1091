"""A dataset looked at before training: what is in it, and a recipe that fits it (``dfine init``, ``dfine finetune``)."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfine_cli.config.choose import (
    Choice,
    Facts,
    Kind,
    choose,
    choose_input_size,
    choose_interval,
    choose_start,
)
from dfine_cli.config.load import Override, Resolved, load_recipe
from dfine_cli.config.schema import Recipe
from dfine_cli.config.write import write_recipe
from dfine_cli.config.yaml12 import render_value
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoFile, load_coco
from dfine_cli.data.doctor import Progress, check
from dfine_cli.data.findings import Report
from dfine_cli.data.layout import Layout, SplitFiles, find_layout, split_coco, write_json_files
from dfine_cli.data.summary import Summary, summarise
from dfine_cli.errors import UsageError, naming

VAL_SHARE = 0.2
SPLIT_SEED = 0


@dataclass(frozen=True)
class Survey:
    """What was found and what was made of it."""

    splits: dict[str, SplitFiles]
    summaries: dict[str, Summary]
    report: Report
    resolved: Resolved
    reasons: dict[str, str]
    """Why a value was chosen, by dotted key."""
    written: list[Path]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "splits": {
                name: {"json": str(files.json), "images": str(files.images), **self.summaries[name].to_dict()}
                for name, files in self.splits.items()
            },
            "doctor": self.report.to_dict(),
            "recipe": self.resolved.recipe.model_dump(mode="json"),
            "reasons": self.reasons,
            "notes": self.resolved.notes,
            "written": [str(path) for path in self.written],
        }


def survey(
    data: Path,
    out: Path,
    *,
    size: str = "n",
    overrides: Sequence[str] = (),
    split: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Survey:
    """Look at a dataset, check it, and write a recipe for it; where anything is wrong nothing is written.

    Without a validation split a fifth of the images, always the same, becomes one: two annotation files
    beside the recipe.

    Args:
        data: A folder in one of the known layouts, or one annotation file.
        out: The recipe to write.
        size: Model size.
        overrides: ``key=value`` texts that count more than what is chosen here.
        split: Whether to split where there is no validation set.
        force: Whether to write over files that are there.
        progress: Called with images checked and images in all.

    Raises:
        UsageError: No dataset there, a file is in the way, or ``out`` is a folder.
        CheckError: The data has errors.
    """
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder", f"give a file, such as {out / 'run.yaml'}")
    if not force:
        _refuse_overwriting([out])
    found = look(
        data,
        out.with_suffix(""),
        size=size,
        overrides=overrides,
        split=split,
        force=force,
        progress=progress,
    )
    write_recipe(found.resolved.recipe, out, found.reasons)
    return replace(found, written=[*found.written, out])


def look(
    data: Path,
    stem: Path,
    *,
    kind: Kind = "scratch",
    size: str = "n",
    overrides: Sequence[str] = (),
    split: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Survey:
    """Look at a dataset, check it, and choose a recipe for it; only files of an own split are written.

    Args:
        data: A folder in one of the known layouts, or one annotation file.
        stem: Where annotation files of an own split go: ``{stem}_train.json`` and ``{stem}_val.json``.
        kind: Folder of the recipes to choose from.
        size: Model size.
        overrides: ``key=value`` texts that count more than what is chosen here.
        split: Whether to split where there is no validation set.
        force: Whether to write over files that are there.
        progress: Called with images checked and images in all.

    Raises:
        UsageError: No dataset there, or a file is in the way.
        CheckError: The data has errors.
    """
    base = load_recipe(f"{kind}/{size}", overrides).recipe
    layout = find_layout(data)
    layout.require("train")
    own = _own_splits(layout, stem) if layout.val is None else {}
    if own and not split:
        raise UsageError(
            f"{layout.root}: there is no validation split", "leave --no-split out to hold out a fifth"
        )
    if not force:
        _refuse_overwriting([files.json for files in own.values()])
    files = {name: load_coco(place.json) for name, place in layout.splits.items()}
    with naming(files["train"].path):
        classes = ClassMap.build(files["train"].categories, base.categories.remap)
    report = check(
        {name: (files[name], place.images) for name, place in layout.splits.items()},
        classes,
        num_queries=10**9,  # the number of queries is chosen below
        exif=base.data.exif,
        on_bad_image=base.data.on_bad_image,
        progress=progress,
    )
    report.raise_for_errors()
    if own:
        contents = split_coco(files["train"], VAL_SHARE, SPLIT_SEED)
        stem.parent.mkdir(parents=True, exist_ok=True)
        write_json_files({place.json: c for place, c in zip(own.values(), contents, strict=True)})
        files |= {name: load_coco(place.json) for name, place in own.items()}
    splits = {**layout.splits, **own}
    resolved, reasons = _choose(layout, splits, files, kind, size, overrides)
    input_size = resolved.recipe.data.input_size
    summaries = {name: summarise(file, input_size) for name, file in files.items()}
    written = [place.json for place in own.values()]
    return Survey(splits, summaries, report, resolved, reasons, written)


def _own_splits(layout: Layout, stem: Path) -> dict[str, SplitFiles]:
    """Where the two halves of a dataset without validation split go."""
    images = layout.require("train").images
    return {name: SplitFiles(stem.with_name(f"{stem.name}_{name}.json"), images) for name in ("train", "val")}


def _refuse_overwriting(paths: Sequence[Path]) -> None:
    taken = [str(path) for path in paths if path.exists()]
    if taken:
        raise UsageError(
            f"{', '.join(taken)}: is there already", "use --force to overwrite, or another --out"
        )


def _choose(
    layout: Layout,
    splits: dict[str, SplitFiles],
    files: dict[str, CocoFile],
    kind: Kind,
    size: str,
    overrides: Sequence[str],
) -> tuple[Resolved, dict[str, str]]:
    """The recipe for the data, and the reason of each value that is neither given nor from a recipe."""
    recipe = f"{kind}/{size}"
    given = {text.partition("=")[0].strip() for text in overrides}
    paths = [
        Override(f"data.{name}_{what}={render_value(str(value.absolute()))}", "DATA")
        for name in ("train", "val")
        for what, value in splits[name]._asdict().items()
    ]
    fixed = [Override(f"name={render_value(_name(layout.root, size))}", "DATA"), *paths]
    base = load_recipe(recipe, [*fixed, *overrides]).recipe
    seen, facts = _facts(files["train"], base)
    choices = {"data.input_size": choose_input_size(seen.median_image), **choose(base, facts, kind)}
    if kind == "finetune":
        choices = {"start.weights": choose_start(size, facts), **choices}
    choices = {key: choice for key, choice in choices.items() if key not in given}
    epochs = choices.get("schedule.epochs", Choice(base.schedule.epochs, "")).value
    interval = choose_interval(int(str(epochs)))
    if interval and "evaluation.every" not in given:
        choices["evaluation.every"] = interval
    chosen = [
        Override(f"{key}={render_value(choice.value)}", "chosen from DATA") for key, choice in choices.items()
    ]
    reasons = {key: choice.reason for key, choice in choices.items()}
    return load_recipe(recipe, [*fixed, *chosen, *overrides]), reasons


def split_stem(data: Path, folder: Path) -> Path:
    """Where in ``folder`` annotation files of an own split of ``data`` go: the same place for the same content."""
    layout = find_layout(data)
    digest = hashlib.sha256(layout.require("train").json.read_bytes()).hexdigest()[:8]
    return folder / "splits" / f"{_plain_name(layout.root)}_{digest}"


def start_for(recipe: Recipe) -> Choice:
    """Published weights to begin with for a recipe that names its data.

    Raises:
        UsageError: It names none, or the annotations are not there.
    """
    if recipe.data.train_json is None:
        raise UsageError(
            "the config names no training data", "give a dataset, or a config written by `dfine init DATA`"
        )
    return choose_start(recipe.size, _facts(load_coco(recipe.data.train_json), recipe)[1])


def _facts(train: CocoFile, recipe: Recipe) -> tuple[Summary, Facts]:
    """The training data in figures, and those of them that choices are made from."""
    seen = summarise(train, recipe.data.input_size)
    with naming(train.path):
        classes = ClassMap.build(train.categories, recipe.categories.remap)
    names, ids = classes.names, classes.category_ids
    return seen, Facts(seen.images, seen.most_boxes, names, ids, _cpus(), seen.boxes_per_image)


def _name(root: Path, size: str) -> str:
    """Name of the run folder: that of the dataset and the size."""
    return f"{_plain_name(root)}_{size}"


def _plain_name(root: Path) -> str:
    """Name of the dataset in plain characters."""
    return re.sub(r"[^a-z0-9]+", "_", root.absolute().name.lower()).strip("_") or "data"


def _cpus() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
