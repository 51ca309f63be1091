"""An ``Analysis`` as tables, as JSON and as Markdown: the same numbers wherever they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.analysis import Analysis
from dfine_cli.evaluation.calibration import BINS, MIN_SCORE
from dfine_cli.evaluation.compare import FEWEST_IMAGES, Comparison, Difference
from dfine_cli.evaluation.confusion import confused_pairs, most_confused
from dfine_cli.evaluation.error_types import KINDS
from dfine_cli.evaluation.report import CLASS_HEADER as COCO_HEADER
from dfine_cli.evaluation.report import class_rows, markdown_table, metric_rows, number, or_none, to_json
from dfine_cli.evaluation.thresholds import GRID, Curves, OperatingPoint

SHOWN = 30
"""Rows of long tables that are shown; JSON has all of them."""


class Table(NamedTuple):
    """A table under a title, with a sentence that says how to read it."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Subject(NamedTuple):
    """What was scored on what, for the head of a report."""

    name: str
    """The model or the results file."""
    data: Path
    """The annotation file."""
    compared_with: str = ""
    """The other model or results file."""


def tables(analysis: Analysis, comparison: Comparison | None = None) -> dict[str, Table]:
    """All tables by name, in the order in which they are read; the comparison only if there is one."""
    made: dict[str, Callable[[Analysis], Table]] = {
        "metrics": _metrics,
        "operating": _operating,
        "errors": _errors,
        "classes": _classes,
        "confusions": _confusions,
        "matrix": _matrix,
        "calibration": _calibration,
        "label_errors": _label_errors,
        "images": _images,
    }
    compared = (
        {"comparison": _comparison(comparison), "changed": _changed(analysis, comparison)}
        if comparison
        else {}
    )
    return compared | {name: make(analysis) for name, make in made.items()}


def analysis_json(
    subject: Subject, analysis: Analysis, comparison: Comparison | None = None, *, full: bool = True
) -> dict[str, Any]:
    """Plain values; what is undefined is null.

    Args:
        subject: What was scored.
        analysis: What was found.
        comparison: What changed from other results.
        full: With curves, confusion matrix, label errors and images; without them it is a summary.
    """
    result = to_json(analysis.result)
    for row, point in zip(result["classes"], analysis.thresholds.class_best, strict=True):
        row["operating_point"] = _point_json(point)
    counts, lost = analysis.errors.counts, analysis.errors.lost
    values = {
        **result,
        "name": subject.name,
        "annotations": str(subject.data),
        "max_dets": list(analysis.max_dets),
        "operating_point": _point_json(analysis.thresholds.best),
        "errors": {kind: {"count": counts[kind], "ap50_lost": or_none(lost[kind])} for kind in KINDS},
        "calibration": _calibration_json(analysis),
        "label_error_count": len(analysis.suspects),
        "notes": list(analysis.notes),
    }
    if comparison is not None:
        values["comparison"] = {"with": subject.compared_with, **_comparison_json(analysis, comparison)}
    return values | (_details_json(analysis) if full else {})


def analysis_markdown(subject: Subject, analysis: Analysis, comparison: Comparison | None = None) -> str:
    """All tables as one Markdown document."""
    result = analysis.result
    parts = [
        f"# {subject.name}",
        f"{subject.data}: {result.images} images, {result.boxes} boxes, {result.detections} detections",
        *(f"> {note}" for note in analysis.notes),
    ]
    for table in tables(analysis, comparison).values():
        parts += [f"## {table.title}", table.note]
        parts += [markdown_table(table.header, table.rows)] if table.rows else ["None."]
    return "\n\n".join(parts) + "\n"


def verdict(difference: Difference, confidence: float) -> str:
    """One sentence that answers whether a gain is real."""
    says = {
        "better": "the gain is real",
        "worse": "the loss is real",
        "unclear": "no difference that these images can show",
        "too few": "too few images to tell",
    }[difference.verdict]
    return f"AP {describe(difference, confidence)}: {says}"


def describe(difference: Difference, confidence: float) -> str:
    """Both values, the change, and its interval if there is one."""
    if or_none(difference.before) is None:
        return "undefined without objects"
    interval = f"{confidence:.0%} interval {signed(difference.low)} to {signed(difference.high)}"
    return (
        f"{number(difference.before)} -> {number(difference.after)} ({signed(difference.change)}, {interval})"
    )


def file_name(analysis: Analysis, image: int) -> str:
    """Name of an image's file, or its id where the annotations do not say."""
    truth = analysis.matching.truth
    return truth.file_names[image] or f"image {truth.image_ids[image]}"


def _metrics(analysis: Analysis) -> Table:
    note = f"pycocotools' numbers, at most {analysis.max_dets[-1]} detections of a class on an image."
    return Table("COCO metrics", note, ("metric", "value", "at"), metric_rows(analysis.result))


def _operating(analysis: Analysis) -> Table:
    note = "The score threshold with the best F1 at IoU 0.50, all classes pooled; per class below."
    row = _point_row(analysis.thresholds.best)
    return Table("Operating point", note, _POINT_HEADER, [row])


_POINT_HEADER = ("threshold", "precision", "recall", "F1")


def _point_row(point: OperatingPoint | None) -> tuple[str, ...]:
    return tuple(number(value) for value in point) if point else ("-",) * len(_POINT_HEADER)


def _errors(analysis: Analysis) -> Table:
    note = (
        "AP50 that would be gained if only errors of this kind were put right, in points "
        "(TIDE, Bolya et al. 2020); the gains do not add up."
    )
    rows = [
        (kind, _points(analysis.errors.lost[kind]), str(analysis.errors.counts[kind]), meaning)
        for kind, meaning in KINDS.items()
    ]
    return Table("Where AP is lost", note, ("kind", "AP50 points", "errors", "meaning"), rows)


def _classes(analysis: Analysis) -> Table:
    note = "AP at IoU 0.50:0.95, overall and for small, medium and large objects; threshold with the best F1."
    rows = [
        (*coco, *(number(value) for value in result.areas), *_point_row(point))
        for coco, result, point in zip(
            class_rows(analysis.result), analysis.result.classes, analysis.thresholds.class_best, strict=True
        )
    ]
    return Table("Classes", note, (*COCO_HEADER, "APs", "APm", "APl", *_POINT_HEADER), rows)


def _confusions(analysis: Analysis) -> Table:
    names, matrix = analysis.matching.truth.names, analysis.confusion
    objects = matrix.sum(1)
    rows = [
        (names[a], names[b], str(count), f"{count / objects[a]:.1%}")
        for a, b, count in confused_pairs(matrix)[:SHOWN]
    ]
    missed, invented = int(matrix[:-1, -1].sum()), int(matrix[-1, :-1].sum())
    note = (
        f"At threshold {analysis.threshold:.3f} and IoU 0.50: {int(matrix.trace())} objects found, {missed} missed, "
        f"{invented} detections on background. The most frequent confusions of two classes:"
    )
    return Table("Confusion", note, ("class", "taken for", "count", "of its objects"), rows)


def _matrix(analysis: Analysis) -> Table:
    names, chosen = (*analysis.matching.truth.names, "background"), most_confused(analysis.confusion)
    counts = analysis.confusion[np.ix_(chosen, chosen)].tolist()
    rows = [(names[k], *map(str, row)) for k, row in zip(chosen, counts, strict=True)]
    part = (
        f", the {len(chosen) - 1} most confused of {len(names) - 1} classes"
        if len(chosen) < len(names)
        else ""
    )
    note = f"Rows are the class of the object, columns that of the detection{part}."
    return Table("Confusion matrix", note, ("", *(names[k] for k in chosen)), rows)


def _calibration(analysis: Analysis) -> Table:
    found = analysis.calibration
    rows = [
        (f"{i / BINS:.1f} to {(i + 1) / BINS:.1f}", str(int(count)), number(confidence), number(precision))
        for i, (count, confidence, precision) in enumerate(
            zip(found.counts, found.confidence, found.precision, strict=True)
        )
        if count
    ]
    tendency = "too sure of itself" if found.bias > 0 else "too modest"
    said = (
        f"{number(found.ece)}, mean score - precision {found.bias:+.4f} ({tendency})" if rows else "undefined"
    )
    note = f"Expected calibration error {said}; detections from score {MIN_SCORE:g}, IoU 0.50."
    return Table("Calibration of scores", note, ("score", "detections", "mean score", "precision"), rows)


def _label_errors(analysis: Analysis) -> Table:
    rows = [
        (
            file_name(analysis, s.image),
            s.kind,
            s.label or "-",
            s.found or "-",
            _box(s.box_xywh),
            f"{s.suspicion:.2f}",
        )
        for s in analysis.suspects[:SHOWN]
    ]
    note = (
        f"{len(analysis.suspects)} places where the detector and the labels contradict each other; "
        f"the {len(rows)} most suspicious ones."
    )
    return Table(
        "Likely label errors",
        note,
        ("image", "kind", "label", "found", "x, y, width, height", "suspicion"),
        rows,
    )


def _images(analysis: Analysis) -> Table:
    images = analysis.images
    rows = [
        (file_name(analysis, i), str(images.correct[i]), str(images.wrong[i]), str(images.missed[i]))
        for i in images.worst(SHOWN)
    ]
    clean = int((images.errors == 0).sum())
    note = f"Most errors at threshold {analysis.threshold:.3f}; {clean} of {len(images.errors)} images have none."
    return Table("Worst images", note, ("image", "right", "wrong", "missed"), rows)


def _comparison(comparison: Comparison) -> Table:
    rows = [
        (
            d.name,
            number(d.before),
            number(d.after),
            signed(d.change),
            signed(d.low),
            signed(d.high),
            d.verdict,
        )
        for d in (comparison.ap, *sorted(comparison.classes, key=lambda d: -abs(d.change)))
    ]
    note = (
        f"{verdict(comparison.ap, comparison.confidence)}. Bootstrap over images with {comparison.resamples} resamples; "
        f"about {1 - comparison.confidence:.0%} of unchanged classes seem better or worse by chance; "
        f"a class on fewer than {FEWEST_IMAGES} images is not judged."
    )
    return Table(
        "Comparison", note, ("class", "AP before", "AP after", "change", "from", "to", "verdict"), rows
    )


def _changed(analysis: Analysis, comparison: Comparison) -> Table:
    rows = [
        (file_name(analysis, c.image), str(c.before), str(c.after), f"{c.after - c.before:+d}")
        for c in comparison.images[:SHOWN]
    ]
    note = f"Errors on {len(comparison.images)} images changed, each set of results at its own threshold."
    return Table("Images that changed most", note, ("image", "errors before", "errors after", "change"), rows)


def _details_json(analysis: Analysis) -> dict[str, Any]:
    truth, images = analysis.matching.truth, analysis.images
    swept = analysis.thresholds
    return {
        "curves": {
            "thresholds": np.round(GRID, 2).tolist(),
            "all": _curves_json(swept.curves),
            "classes": {
                name: _curves_json(c) for name, c in zip(truth.names, swept.class_curves, strict=True)
            },
        },
        "confusion": {"classes": [*truth.names, "background"], "matrix": analysis.confusion.tolist()},
        "label_errors": [
            {
                "kind": s.kind,
                "image_id": int(truth.image_ids[s.image]),
                "file_name": file_name(analysis, s.image),
                "bbox": list(s.box_xywh),
                "label": s.label or None,
                "found": s.found or None,
                "suspicion": s.suspicion,
                "annotation_ids": list(s.annotations),
            }
            for s in analysis.suspects
        ],
        "image_errors": [
            {
                "image_id": int(truth.image_ids[i]),
                "file_name": file_name(analysis, i),
                **{key: int(column[i]) for key, column in images._asdict().items()},
            }
            for i in range(len(truth.image_ids))
        ],
    }


def _comparison_json(analysis: Analysis, comparison: Comparison) -> dict[str, Any]:
    return {
        "resamples": comparison.resamples,
        "confidence": comparison.confidence,
        "ap": _difference_json(comparison.ap),
        "classes": [_difference_json(d) for d in comparison.classes],
        "images": [{**c._asdict(), "image": file_name(analysis, c.image)} for c in comparison.images],
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {
        "name": difference.name,
        **{key: or_none(getattr(difference, key)) for key in ("before", "after", "low", "high")},
        "change": difference.change,
        "images": difference.images,
        "verdict": difference.verdict,
    }


def _calibration_json(analysis: Analysis) -> dict[str, Any]:
    found = analysis.calibration
    return {
        "min_score": MIN_SCORE,
        "counts": found.counts.tolist(),
        "confidence": _column(found.confidence),
        "precision": _column(found.precision),
        "ece": or_none(found.ece),
        "bias": None if np.isnan(found.bias) else found.bias,
    }


def _curves_json(curves: Curves) -> dict[str, Any]:
    return {
        "precision": _column(curves.precision),
        "recall": _column(curves.recall),
        "f1": _column(curves.f1),
    }


def _column(values: NDArray[np.float64]) -> list[float | None]:
    """Values with five digits, which is enough to draw them; None where undefined."""
    return [None if np.isnan(value) else round(value, 5) for value in values.tolist()]


def _point_json(point: OperatingPoint | None) -> dict[str, float] | None:
    return point._asdict() if point else None


def _points(share: float) -> str:
    return "-" if or_none(share) is None else f"{100 * share:.2f}"


def signed(value: float) -> str:
    """Four digits with a sign, or a dash where the value is undefined."""
    return "-" if np.isnan(value) else f"{value:+.4f}"


def _box(xywh: tuple[float, ...]) -> str:
    return ", ".join(f"{v:.0f}" for v in xywh)
