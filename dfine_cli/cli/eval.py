"""``dfine eval``: the COCO numbers of a checkpoint, or of a results file, on a dataset."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfine_cli.cli.console import StatusLine, print_json, print_next, print_out, print_table, say
from dfine_cli.cli.options import JsonOption
from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.data.layout import SplitFiles
    from dfine_cli.evaluation.coco_eval import EvalResult


class Split(str, Enum):
    """Part of a dataset."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def command(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL]", help="A checkpoint, or a run folder (its best weights)."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]", help="A dataset folder, a COCO JSON file, a config or a run folder."
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which part of the dataset.")] = Split.VAL,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if DATA is a JSON file.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Score this COCO results file; give DATA and no model."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in one pass.")] = 16,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the predictions (COCO results).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a checkpoint on a dataset with COCO's twelve numbers and AP per class.

    Without DATA a run is scored on its own validation set. Predictions keep the category ids of the dataset.
    """
    if predictions is not None:
        _score_file(predictions, find_data(data or model, split, images), as_json)
        return
    if model is None:
        raise UsageError("give a checkpoint or a run folder", "dfine eval runs/NAME DATA")
    files = find_data(data or model, split, images)
    from dfine_cli.backends.detector import find_weights, open_detector
    from dfine_cli.evaluation.predict import write_results
    from dfine_cli.evaluation.score import score_detector

    detector = open_detector(model, device)
    status = StatusLine()
    try:
        scored = score_detector(
            detector,
            files,
            batch=batch,
            workers=workers,
            on_progress=lambda done, total: status.update(f"evaluating {done}/{total} images"),
        )
    finally:
        status.close()
    out = out or _beside(find_weights(model), split)
    write_results(out, scored.results)
    extra = {"images_per_s": round(scored.images_per_s, 2), "predictions": str(out), "model": str(model)}
    _show(scored.result, files, extra, as_json)
    print_next(f"dfine eval {model} {data or ''} --split test".replace("  ", " "))


def _score_file(predictions: Path, files: "SplitFiles", as_json: bool) -> None:
    from dfine_cli.evaluation.coco_eval import evaluate, read_json

    result = evaluate(files.json, read_json(predictions))
    _show(result, files, {"predictions": str(predictions)}, as_json)


def find_data(source: Path | None, split: Split, images: Path | None) -> "SplitFiles":
    """The annotation file and image folder that ``source`` stands for."""
    from dfine_cli.data.layout import SplitFiles, find_layout

    if source is None:
        raise UsageError(
            "give the data to score on", "a dataset folder, a COCO JSON file, a config or a run folder"
        )
    if source.suffix == ".json" and images is not None:
        return SplitFiles(source, images)
    recipe = source / "recipe.yaml" if source.is_dir() else source
    if recipe.suffix in (".yaml", ".yml") and recipe.is_file():
        return _data_of_recipe(recipe, split)
    if source.suffix in (".pt", ".pth"):
        raise UsageError(
            f"{source}: a checkpoint does not say which data to use", f"dfine eval {source} DATA"
        )
    layout = find_layout(source)
    if layout.single and layout.train is not None:
        return layout.train
    return layout.require(split.value)


def _data_of_recipe(recipe: Path, split: Split) -> "SplitFiles":
    from dfine_cli.config.load import load_recipe
    from dfine_cli.data.layout import SplitFiles

    data = load_recipe(recipe).recipe.data
    json, folder = {
        Split.TRAIN: (data.train_json, data.train_images),
        Split.VAL: (data.val_json, data.val_images),
        Split.TEST: (None, None),
    }[split]
    if json is None or folder is None:
        raise UsageError(f"{recipe} names no {split.value} data", "give the dataset folder as DATA")
    return SplitFiles(json, folder)


def _beside(weights: Path, split: Split) -> Path:
    """Where predictions go: into the folder of the run, or beside a checkpoint of its own."""
    run = weights.parent.parent
    folder = run / "predictions" if (run / "recipe.yaml").is_file() else weights.parent
    return folder / f"{split.value}.json"


def _show(result: "EvalResult", files: "SplitFiles", extra: dict[str, Any], as_json: bool) -> None:
    from dfine_cli.evaluation.report import CLASS_HEADER, class_rows, metric_rows, to_json

    if as_json:
        print_json({**to_json(result), "annotations": str(files.json), **extra})
        return
    print_out(f"{files.json}: {result.images} images, {result.boxes} boxes, {result.detections} detections\n")
    print_table(metric_rows(result))
    print_out()
    print_table(class_rows(result), CLASS_HEADER)
    for name, value in extra.items():
        say(f"{name}: {value}")
