"""A detector scored on one split of a dataset."""

import time
from typing import NamedTuple

from dfine_cli.backends.detector import Detector
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoDataset, CocoFile, load_coco
from dfine_cli.data.doctor import check
from dfine_cli.data.findings import Finding
from dfine_cli.data.layout import SplitFiles
from dfine_cli.errors import UsageError
from dfine_cli.evaluation.coco_eval import EvalResult, evaluate
from dfine_cli.evaluation.predict import Progress, detect_all, to_results
from dfine_cli.types import Detections, JsonDict


class Scored(NamedTuple):
    """Scores and what they were made from."""

    result: EvalResult
    results: list[JsonDict]
    """COCO results, those of classes that the data does not have among them; these are not scored."""
    known_results: list[JsonDict]
    """Those of classes that the data has."""
    dataset: CocoDataset
    names: tuple[str, ...]
    """Of the detector's classes."""
    detections: dict[int, Detections]
    """What was found, by image id."""
    warnings: tuple[Finding, ...]
    """What is odd about the data."""
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

    The detector may have more classes than the data: what it finds of them is not scored.

    Raises:
        UsageError: The data has classes that the detector does not have.
        CheckError: The data has errors.
        DfineError: The data cannot be read.
    """
    truth = load_coco(files.json)
    classes = detector.classes
    require_known_classes(classes, truth)
    report = check({files.json.stem: (truth, files.images)}, classes, num_queries=10**9, exif=detector.exif)
    report.raise_for_errors()
    dataset = CocoDataset(truth, files.images, classes, exif=detector.exif)
    started = time.perf_counter()
    found = dict(detect_all(detector, dataset, batch=batch, workers=workers, on_progress=on_progress))
    rate = len(dataset) / max(time.perf_counter() - started, 1e-9)
    results = [r for image_id, d in found.items() for r in to_results(image_id, d, classes.category_ids)]
    known = {category["id"] for category in truth.categories}
    scored = [r for r in results if r["category_id"] in known]
    numbers = evaluate(files.json, scored)
    return Scored(numbers, results, scored, dataset, classes.names, found, report.warnings, rate)


def require_known_classes(classes: ClassMap, truth: CocoFile) -> None:
    """Refuse data with classes that the detector does not have, or has under another id.

    Raises:
        UsageError: The message names the first ones.
    """
    ours = dict(zip(classes.category_ids, classes.names, strict=True))
    differing = [
        f"{c['id']} {c['name']!r} (the detector has {_under(ours, c['id'])})"
        for c in truth.categories
        if ours.get(c["id"]) != c["name"]
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UsageError(
            f"{truth.path}: {len(differing)} of its {len(truth.categories)} classes are not those the detector "
            f"was trained on: {', '.join(differing[:3])}{more}",
            "score it on data with the same category ids and names",
        )


def _under(names: dict[int, str], category_id: int) -> str:
    return f"{names[category_id]!r} there" if category_id in names else "no such id"
