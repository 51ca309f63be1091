"""A detector scored on one split of a dataset."""

import time
from typing import NamedTuple

from dfine_cli.backends.detector import Detector
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoDataset, CocoFile, load_coco
from dfine_cli.data.layout import SplitFiles
from dfine_cli.errors import UsageError
from dfine_cli.evaluation.coco_eval import EvalResult, evaluate
from dfine_cli.evaluation.predict import Progress, predict
from dfine_cli.types import JsonDict


class Scored(NamedTuple):
    """Scores and what they were made from."""

    result: EvalResult
    results: list[JsonDict]
    """COCO results."""
    images_per_s: float
    """Reading, preprocessing, network and post-processing together."""


def score_detector(
    detector: Detector,
    files: SplitFiles,
    *,
    batch: int,
    workers: int,
    on_progress: Progress | None = None,
) -> Scored:
    """Run ``detector`` over a split and score it.

    Raises:
        UsageError: Its classes are not those of the data.
        DfineError: The data cannot be read.
    """
    truth = load_coco(files.json)
    require_same_classes(detector.classes, truth)
    dataset = CocoDataset(truth, files.images, detector.classes)
    started = time.perf_counter()
    results = predict(detector, dataset, batch=batch, workers=workers, on_progress=on_progress)
    rate = len(dataset) / max(time.perf_counter() - started, 1e-9)
    return Scored(evaluate(files.json, results), results, rate)


def require_same_classes(classes: ClassMap, truth: CocoFile) -> None:
    """Refuse data whose category ids mean something else than the detector's.

    Raises:
        UsageError: An id is missing on one side or has two names; the message lists the first ones.
    """
    ours = dict(zip(classes.category_ids, classes.names, strict=True))
    theirs = {c["id"]: c["name"] for c in truth.categories}
    differing = [
        f"{i}: {ours.get(i, 'none')!r} in the checkpoint, {theirs.get(i, 'none')!r} in the data"
        for i in sorted(ours.keys() | theirs.keys())
        if ours.get(i) != theirs.get(i)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UsageError(
            f"{truth.path}: its categories are not those the detector was trained on: {'; '.join(differing[:3])}{more}",
            "score it on data with the same category ids and names",
        )
