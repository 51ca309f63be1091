"""Options that several commands share, and how they become overrides of a recipe."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfine_cli.cli.console import say
from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.backends.detector import OpenOptions

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a key of the recipe, as in optim.lr=3e-4. Repeatable."
    ),
]
ShowOption = Annotated[
    bool, typer.Option("--show", help="Print every value of the recipe with its origin, and stop.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")
]
BatchOption = Annotated[
    int | None, typer.Option("--batch", metavar="N", help="Images in one forward pass (optim.batch).")
]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="Passes over the data (schedule.epochs).")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Seed of all that is random (run.seed).")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Processes that load data (data.workers).")
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of the run folder (name).")
]
SizeOption = Annotated[str, typer.Option("--size", metavar="n|s|m|l|x", help="Model size.")]
InputSizeOption = Annotated[
    str | None,
    typer.Option(
        "--input-size", metavar="N|H,W", help="Network input in pixels, multiples of 32: 640 or 384,640."
    ),
]
ClassesOption = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="COCO JSON file with the classes of an exported file that does not say them. Default: COCO's.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Build everything, take one step, and write no run folder.")
]
OutOption = Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]

FLAGS = {
    "categories.remap": "--remap",
    "data.input_size": "--input-size",
    "data.workers": "--workers",
    "model.activation": "--from",
    "name": "--name",
    "optim.batch": "--batch",
    "run.device": "--device",
    "run.seed": "--seed",
    "schedule.early_stop": "--early-stop",
    "schedule.epochs": "--epochs",
    "size": "--size",
    "start.class_map": "--class-map",
    "start.freeze": "--freeze",
    "start.head": "--no-head",
    "start.weights": "--from",
}
"""Keys of the recipe and the flag that stands for each; messages about a value name it."""


def to_overrides(flags: Mapping[str, object], assignments: Sequence[str] | None = None) -> list[str]:
    """Overrides for ``load_recipe``: the flags that were given, then ``--set``, which counts more.

    Args:
        flags: Value of each flag by the key of ``FLAGS`` that it stands for; None if it was not given.
        assignments: The ``--set`` options.
    """
    from dfine_cli.config.load import Override
    from dfine_cli.config.yaml12 import render_value

    given = [
        Override(f"{key}={render_value(value)}", FLAGS[key])
        for key, value in flags.items()
        if value is not None
    ]
    return [*given, *(assignments or ())]


def check_place(option: str, path: Path) -> None:
    """Refuse, before anything is computed, a place where no file can be made.

    Args:
        option: That gives it, for the message.
        path: The file or folder that is to be written; folders on the way to it need not be there.

    Raises:
        UsageError: A folder on the way is a file, or may not be written.
    """
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not there.is_dir():
        raise UsageError(f"{option} {path}: {there} is a file, not a folder", "choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: {there} may not be written", "choose another place")


def parse_input_size(text: str | None) -> list[int] | None:
    """``640`` or ``384,640`` (height, width) as the value of ``data.input_size``.

    Raises:
        UsageError: It is neither.
    """
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) > 2 or not all(part.strip().isdigit() for part in parts):
        raise UsageError(
            f"--input-size {text}: must be one number or height,width", "for example 640 or 384,640"
        )
    return [int(parts[0]), int(parts[-1])]


def to_open_options(device: str, input_size: str | None, classes: Path | None) -> "OpenOptions":
    """What ``open_detector`` is told.

    Raises:
        UsageError: The size is not one, or there is no such file of classes.
        CheckError: The file of classes is not COCO's.
    """
    from dfine_cli.backends.detector import OpenOptions
    from dfine_cli.data.classes import ClassMap
    from dfine_cli.data.coco import load_coco

    size = parse_input_size(input_size)
    return OpenOptions(
        device,
        (size[0], size[1]) if size else None,
        ClassMap.build(load_coco(classes).categories, "auto") if classes else None,
        warn=lambda text: say(f"warning: {text}"),
    )
