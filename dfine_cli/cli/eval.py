"""``dfine eval``: the COCO numbers of a checkpoint, an exported file or a results file, on a dataset."""

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfine_cli.cli.console import StatusLine, print_next, say
from dfine_cli.cli.data import Split, find_data
from dfine_cli.cli.downloads import local_weights
from dfine_cli.cli.options import ClassesOption, InputSizeOption, JsonOption, to_open_options
from dfine_cli.cli.places import (
    check_overwrites,
    check_places,
    is_in_run,
    predictions_beside,
    refuse_foreign,
)
from dfine_cli.cli.typed import refuse_typed
from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.backends.detector import OpenOptions
    from dfine_cli.data.layout import SplitFiles
    from dfine_cli.evaluation.score import Scored
    from dfine_cli.evaluation.truth import Truth


OF_MODELS = ("batch", "workers", "device", "input_size", "classes")
"""Parameters that only a model gives a meaning."""
USUAL_MAX_DETS = 100
"""Detections of a class that count on an image, as in COCO's numbers."""


def command(
    context: typer.Context,
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A checkpoint, a run folder (its best weights), an exported file, or a name of `dfine zoo list`.",
        ),
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
    workers: Annotated[int, typer.Option(min=0, help="Threads that read images.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    input_size: InputSizeOption = None,
    classes: ClassesOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write the predictions (COCO results). Default: beside an exported file; in predictions/ of "
            "a run, called by the split, or by the annotation file if it is not the run's own.",
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw some of the images with ground truth and predictions."),
    ] = None,
    max_dets: Annotated[
        int, typer.Option(min=1, help="Detections of a class that count on an image.")
    ] = USUAL_MAX_DETS,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="OTHER", help="Compare with this checkpoint, run folder or results file."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR|FILE", help="Write a report: a folder, or a file .html, .json or .md."),
    ] = None,
    store: Annotated[
        bool | None,
        typer.Option(
            "--store-threshold/--no-store-threshold",
            help="Keep the best threshold in the checkpoint. Default: where a run is scored on its own val data.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a model on a dataset: COCO's numbers, where AP is lost, the best threshold, likely label errors.

    Without DATA a run is scored on its own validation set. Predictions keep the category ids of the dataset.
    """
    check_words(model, data, predictions, {"--out": out, "--sheet": sheet, "--store-threshold": store})
    if predictions is not None and (compare is None or compare.suffix == ".json"):
        refuse_typed(context, OF_MODELS, "is for a model", "there is none to be run: leave it out")
    if compare is not None and not compare.exists():
        raise UsageError(
            f"--compare {compare}: no such file or folder", "give a results file or a run folder"
        )
    check_places({"--out": out, "--sheet": sheet, "--report": report})
    from dfine_cli.backends.detector import find_weights
    from dfine_cli.cli.explain import check_report, explain_results, load_results, show_explained, store_point
    from dfine_cli.evaluation.analysis_report import Subject
    from dfine_cli.evaluation.plausible import read_checked
    from dfine_cli.evaluation.results import to_columns
    from dfine_cli.visualize.report_files import report_paths

    check_report(report)
    source = predictions or _given(model)
    weights = None if predictions else _model_file(find_weights(local_weights(str(source))))
    files = find_data(data or model, split, images)
    target = out or (predictions_beside(weights, files.json, split) if weights else None)
    read = {"the annotations": files.json, "the results": predictions, "the weights": weights}
    if out is not None or target is None or not is_in_run(target):  # a run keeps its last predictions
        read["what it is compared with"] = compare
    check_overwrites({"--out": [target], "--sheet": [sheet], "--report": report_paths(report)}, read)
    refuse_foreign(target)
    _check_store(store, weights, max_dets)
    options = to_open_options(device, input_size, classes)
    detect = partial(_detect, files=files, options=options, batch=batch, workers=workers)
    scored = None if weights is None else detect(weights)  # which looks closer at the data than what follows
    truth = _read_truth(files.json)
    other = load_results(compare, truth, detect) if compare else None
    if scored is not None and target is not None:
        results, extra = to_columns(scored.known_results), _write_found(scored, target, str(model))
    else:
        results, extra = read_checked(source, truth), {"predictions": str(predictions)}
    subject = Subject(_name(source), files.json, _name(compare) if compare else "")
    explained, written = explain_results(
        subject, truth, files, results, other=other, max_dets=max_dets, report=report
    )
    if scored is not None and sheet is not None:
        from dfine_cli.visualize.sheet import sheet_of

        threshold = explained.analysis.threshold
        sheet_of(scored.dataset, scored.detections, scored.names, sheet, threshold=threshold)
        extra["sheet"] = str(sheet)
    own = data is None and split is Split.VAL and max_dets == USUAL_MAX_DETS
    if weights is not None and scored is not None and (own if store is None else store):
        place = store_point(weights, explained, files, scored.names)
        extra |= {"threshold_stored_in": place} if place else {}
    if written:
        extra["report"] = [str(path) for path in written]
    show_explained(subject, explained, extra, as_json)
    if weights is not None and sheet is None:
        typed = {
            "--split": None if split is Split.VAL else split.value,
            "--images": images,
            "--device": None if device == "auto" else device,
            "--input-size": input_size,
            "--classes": classes,
            "--out": out,
            "--sheet": "sheet.png",
        }
        print_next(_command(model, data, typed))


def _command(model: Path | None, data: Path | None, options: Mapping[str, object]) -> str:
    """What to type for the same model and data; options that are None are left out."""
    typed = [word for name, value in options.items() if value is not None for word in (name, value)]
    return shlex.join(["dfine", "eval", *(str(word) for word in (model, data, *typed) if word is not None)])


def _write_found(scored: "Scored", target: Path, model: str) -> dict[str, Any]:
    """Write what a model has found, and give what is said about it.

    Classes that the data does not have are left out, or the file could not be read again for this data.
    """
    from dfine_cli.evaluation.predict import write_results

    write_results(target, scored.known_results)
    for warning in scored.warnings:
        say(f"warning: {warning}")
    return {"images_per_s": round(scored.images_per_s, 2), "predictions": str(target), "model": model}


def _read_truth(file: Path) -> "Truth":
    """Ground truth, with a warning if its boxes look wrong as a whole."""
    from dfine_cli.evaluation.plausible import written_as_corners
    from dfine_cli.evaluation.truth import read_truth

    truth = read_truth(file)
    if written_as_corners(truth):
        say(
            f"warning: {file}: many boxes reach out of their images, and none would if they were read as "
            "[x1, y1, x2, y2]: COCO's are [x, y, width, height]"
        )
    return truth


def _detect(model: Path, files: "SplitFiles", options: "OpenOptions", batch: int, workers: int) -> "Scored":
    """Run a model over a split, with progress."""
    from dfine_cli.backends.detector import open_detector
    from dfine_cli.evaluation.score import score_detector

    status = StatusLine()
    try:
        return score_detector(
            open_detector(model, options=options),
            files,
            batch=batch,
            workers=workers,
            on_progress=lambda done, total: status.update(f"evaluating {done}/{total} images"),
        )
    finally:
        status.close()


def check_words(
    model: Path | None, data: Path | None, predictions: Path | None, of_model: Mapping[str, object]
) -> None:
    """Refuse words that contradict each other rather than pass over one of them.

    Args:
        model: The first word, which is the data if results are given.
        data: The second.
        predictions: The results.
        of_model: Options that only a model gives a meaning, with their values; None if not given.

    Raises:
        UsageError: Naming the word that is too many.
    """
    if predictions is None:
        return
    if model is not None and data is not None:
        raise UsageError(
            f"--predictions {predictions} and the model {model}: only one of them can be scored",
            f"dfine eval {data} --predictions {predictions}, or add --compare {predictions} to the model",
        )
    for option, value in of_model.items():
        if value is not None:
            raise UsageError(f"{option} is for what a model finds", "give a model, without --predictions")


def _check_store(store: bool | None, weights: Path | None, max_dets: int) -> None:
    """Refuse to store a threshold where none can be.

    Raises:
        UsageError: The weights are an exported file, or it would be the threshold of other numbers than COCO's.
    """
    from dfine_cli.backends.detector import EXPORTED

    if store and weights is not None and weights.suffix.lower() in EXPORTED:
        raise UsageError(
            f"--store-threshold: {weights} has the threshold of its checkpoint",
            "store it in the checkpoint, and export that again",
        )
    if store and max_dets != USUAL_MAX_DETS:
        raise UsageError(
            f"--store-threshold: the best threshold of {max_dets} detections is not that of {USUAL_MAX_DETS}",
            "leave --max-dets out",
        )


def _given(model: Path | None) -> Path:
    if model is None:
        raise UsageError("give a checkpoint, an exported file or a run folder", "dfine eval runs/NAME DATA")
    return model


def _model_file(file: Path) -> Path:
    """``file``, if a detector could be in it: who gives the data alone is told what is missing."""
    from dfine_cli.backends.detector import OPENERS

    if file.suffix.lower() not in OPENERS:
        raise UsageError(f"{file}: is no model", f"give one before the data, such as runs/NAME {file}")
    return file


def _name(source: Path) -> str:
    """What a run folder, checkpoint or results file is called in a report."""
    return source.absolute().name
