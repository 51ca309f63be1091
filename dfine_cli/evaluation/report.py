"""An ``EvalResult`` as rows for a terminal table, as JSON and as Markdown."""

import math
from collections.abc import Sequence
from typing import Any

from dfine_cli.evaluation.average_precision import UNDEFINED
from dfine_cli.evaluation.coco_eval import EvalResult
from dfine_cli.evaluation.matching import AREAS

SCHEMA_VERSION = 1
"""Version of the JSON layout."""

MEANINGS = {
    "AP": "IoU 0.50:0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "objects up to 32² pixels",
    "APm": "objects of 32² to 96² pixels",
    "APl": "objects above 96² pixels",
    "ARs": "recall, small objects",
    "ARm": "recall, medium objects",
    "ARl": "recall, large objects",
}
CLASS_HEADER = ("class", "id", "images", "boxes", "detections", "AP", "AP50")


def metric_rows(result: EvalResult) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of the twelve numbers."""
    return [(name, number(value), _meaning(name)) for name, value in result.numbers.items()]


def class_rows(result: EvalResult) -> list[tuple[str, ...]]:
    """One row per class under ``CLASS_HEADER``."""
    return [
        (
            c.name,
            str(c.category_id),
            str(c.images),
            str(c.boxes),
            str(c.detections),
            number(c.ap),
            number(c.ap50),
        )
        for c in result.classes
    ]


def to_json(result: EvalResult) -> dict[str, Any]:
    """Plain values with ``schema_version``; numbers without ground truth are null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "metrics": {name: or_none(value) for name, value in result.numbers.items()},
        "images": result.images,
        "boxes": result.boxes,
        "detections": result.detections,
        "classes": [
            {
                **{key: value for key, value in c._asdict().items() if key != "areas"},
                "ap": or_none(c.ap),
                "ap50": or_none(c.ap50),
                **{f"ap_{area}": or_none(value) for area, value in zip(AREAS[1:], c.areas, strict=False)},
            }
            for c in result.classes
        ],
    }


def to_markdown(result: EvalResult) -> str:
    """Both tables, with a line about what was scored."""
    summary = f"{result.images} images, {result.boxes} boxes, {result.detections} detections"
    parts = [summary, markdown_table(("metric", "value", "at"), metric_rows(result))]
    if result.classes:
        parts.append(markdown_table(CLASS_HEADER, class_rows(result)))
    return "\n\n".join(parts) + "\n"


def _meaning(name: str) -> str:
    return MEANINGS.get(name, f"recall, at most {name[2:]} detections an image and class")


def number(value: float) -> str:
    """Four digits, or a dash where the value is undefined."""
    return "-" if or_none(value) is None else f"{value:.4f}"


def or_none(value: float) -> float | None:
    """A number for JSON; None where it is undefined."""
    return None if value == UNDEFINED or math.isnan(value) else value


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; bars in cells are escaped."""
    lines = [
        header,
        tuple("---" for _ in header),
        *(tuple(c.replace("|", "\\|") for c in row) for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
