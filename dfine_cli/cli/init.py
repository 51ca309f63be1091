"""``dfine init``: look at a dataset, say what is in it, and write a config for it."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfine_cli.cli.console import StatusLine, print_json, print_next, print_out, print_table
from dfine_cli.cli.options import (
    EpochsOption,
    ForceOption,
    InputSizeOption,
    JsonOption,
    OutOption,
    SetOption,
    SizeOption,
    parse_input_size,
    to_overrides,
)
from dfine_cli.cli.show import tell_notes

if TYPE_CHECKING:
    from dfine_cli.survey import Survey

MOST_CLASSES = 20
"""Classes in the printed table; all are in ``--json``."""


def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A dataset folder, or one COCO JSON file.")],
    size: SizeOption = "n",
    input_size: InputSizeOption = None,
    epochs: EpochsOption = None,
    remap: Annotated[
        str | None,
        typer.Option("--remap", metavar="auto|coco80|none", help="From category ids to class indices."),
    ] = None,
    out: OutOption = Path("run.yaml"),
    split: Annotated[
        bool, typer.Option("--split/--no-split", help="Hold out a fifth for validation if there is none.")
    ] = True,
    force: ForceOption = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at a dataset and write a commented config for training on it."""
    from dfine_cli.survey import survey

    flags = {
        "data.input_size": parse_input_size(input_size),
        "schedule.epochs": epochs,
        "categories.remap": remap,
    }
    status = StatusLine()
    try:
        found = survey(
            data,
            out,
            size=size,
            overrides=to_overrides(flags, set_),
            split=split,
            force=force,
            progress=lambda done, total: status.update(f"checking images: {done}/{total}"),
        )
    finally:
        status.close()
    following = f"dfine train {shlex.quote(str(out))}"
    if as_json:
        print_json({**found.to_dict(), "next": following})
    else:
        _show(found)
    print_next(following)


def _show(found: "Survey") -> None:
    tell_notes(found.resolved)
    _show_splits(found)
    _show_classes(found)
    print_out()
    for finding in found.report.findings:
        print_out(f"{finding.severity}: {finding}\n  fix: {finding.fix}")
    if not found.report.findings:
        print_out("check: no problems found")
    _show_choices(found)
    print_out("\nwrote " + ", ".join(map(str, found.written)))


def _show_splits(found: "Survey") -> None:
    header = (
        "split",
        "images",
        "boxes",
        "a image",
        "most",
        "none",
        "small",
        "medium",
        "large",
        "median px",
    )
    rows = [
        (
            name,
            s.images,
            s.boxes,
            f"{s.boxes_per_image:.1f}",
            s.most_boxes,
            s.images_without_boxes,
            *(f"{share:.0%}" if any(s.median_image) else "-" for share in (s.small, s.medium, s.large)),
            f"{s.median_side_px:.0f}" if any(s.median_image) else "-",
        )
        for name, s in found.summaries.items()
    ]
    for name, files in found.splits.items():
        print_out(f"{name}: {files.json}, images in {files.images}")
    print_out()
    print_table(rows, header)
    height, width = found.resolved.recipe.data.input_size
    seen = found.summaries["train"]
    low, median, high = (
        "x".join(map(str, reversed(size)))
        for size in (seen.smallest_image, seen.median_image, seen.largest_image)
    )
    sizes = f"training images are {low} to {high}, the median is {median} pixels"
    if not all(seen.median_image):
        sizes = "the annotations do not say how large images are, so sizes of objects are not known"
    print_out(
        f"object sizes are those at the training resolution of {width}x{height}: small is under 32x32, large "
        f"from 96x96 pixels on;\n{sizes}\n"
    )


def _show_classes(found: "Survey") -> None:
    by_split = {
        name: {c.category_id: c for c in summary.classes} for name, summary in found.summaries.items()
    }
    classes = found.summaries["train"].classes
    rows = [
        (
            c.name,
            c.category_id,
            *(counts[c.category_id].boxes if c.category_id in counts else 0 for counts in by_split.values()),
        )
        for c in classes[:MOST_CLASSES]
    ]
    print_table(rows, ("class", "id", *(f"{name} boxes" for name in by_split)))
    if len(classes) > MOST_CLASSES:
        print_out(f"and {len(classes) - MOST_CLASSES} more classes")


def _show_choices(found: "Survey") -> None:
    from dfine_cli.config.keys import flatten
    from dfine_cli.config.yaml12 import render_value

    values = flatten(found.resolved.recipe)
    print_out("\nchosen, everything else as in the recipe:")
    print_table([(f"  {key}", render_value(values[key]), why) for key, why in found.reasons.items()])
