"""``dfine eval``: the COCO numbers of a checkpoint, or of a results file, on a dataset."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass


class Split(str, Enum):
    """Part of a dataset."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def command(
    model: Annotated[Path, typer.Argument(help="A checkpoint, or the folder of a run (its best weights).")],
    data: Annotated[
        Path | None,
        typer.Argument(help="A dataset folder, a COCO JSON file, a recipe or the folder of a run."),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which part of the dataset.")] = Split.VAL,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if DATA is a JSON file.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Score this COCO results file; then no model is given.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in one pass.")] = 16,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Where to write the predictions as COCO results.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Score a checkpoint on a dataset with COCO's twelve numbers and AP per class.

    The predictions are written as COCO results with the category ids of the dataset.
    """
