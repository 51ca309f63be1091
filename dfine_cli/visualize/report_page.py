"""The report of an evaluation as one HTML page that needs nothing else: charts, tables and pictures are inside."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from numpy.typing import NDArray

from dfine_cli import __version__
from dfine_cli.evaluation.analysis import Analysis
from dfine_cli.evaluation.analysis_report import Subject, Table, file_name, tables, verdict
from dfine_cli.evaluation.compare import Comparison
from dfine_cli.evaluation.confusion import MOST_CLASSES, most_confused
from dfine_cli.evaluation.explain import Explained
from dfine_cli.evaluation.report import number, or_none
from dfine_cli.evaluation.thresholds import Curves
from dfine_cli.visualize.charts import (
    Series,
    confusion_chart,
    curves_chart,
    interval_chart,
    reliability_chart,
)
from dfine_cli.visualize.outcomes import ImageFolder, draw_outcomes, draw_suspect, to_data_uri

WORST = 18
"""Pictures of the images with most errors."""
CHANGED = 6
"""Images shown before and after."""
SUSPECTS = 40
"""Details of likely label errors."""
PICTURE, DETAIL = 640, 200
"""Longer side of a picture and of a detail in pixels."""
MOST_INTERVALS = 24
"""Classes of a comparison that are drawn."""


class Card(NamedTuple):
    """A number at the head of the page."""

    name: str
    value: str
    note: str


class Shot(NamedTuple):
    """A picture with what it shows."""

    title: str
    note: str
    sources: tuple[str, ...]
    """Addresses of one picture, or of two to be compared."""


def render_page(subject: Subject, explained: Explained, images: ImageFolder | None) -> str:
    """The whole page.

    Args:
        subject: What was scored on what.
        explained: What was found.
        images: Where pictures come from; without them the page has none, and says so.
    """
    analysis, before, comparison = explained
    shown = tables(analysis, comparison)
    context = {
        "version": __version__,
        "subject": subject,
        "result": analysis.result,
        "notes": analysis.notes,
        "cards": _cards(analysis),
        "tables": shown,
        "threshold": f"{analysis.threshold:.3f}",
        "curves": curves_chart(_series(analysis.thresholds.curves), analysis.threshold),
        "curve_data": _curve_data(analysis),
        "losses": _losses(analysis, shown["errors"]),
        "confusion": _confusion(analysis),
        "many_classes": len(analysis.matching.truth.names) > MOST_CLASSES,
        "reliability": reliability_chart(analysis.calibration),
        "has_pictures": images is not None,
        "worst": _worst(analysis, images) if images else [],
        "suspects": _suspects(analysis, images) if images else [],
        "comparison": None,
    }
    if comparison is not None and before is not None:
        context["comparison"] = {
            "verdict": verdict(comparison.ap, comparison.confidence).replace("->", "→"),
            "kind": comparison.ap.verdict,
            "chart": interval_chart(_most_changed(comparison), comparison.confidence),
            "pictures": _changed(before, analysis, comparison, images) if images else [],
        }
    return page_template("report_page.html").render(context)


@lru_cache(maxsize=4)
def page_template(name: str) -> jinja2.Template:
    """A page of this folder; what is put into it is text, never markup, unless the page says so."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["quantity"] = _is_quantity
    return environment.get_template(name)


def _is_quantity(text: str) -> bool:
    """Whether a cell holds a number, or the dash in place of one."""
    return text == "-" or re.fullmatch(r"[+-]?[\d.,]+%?", text) is not None


def _cards(analysis: Analysis) -> list[Card]:
    numbers, best = analysis.result.numbers, analysis.thresholds.best
    most = f"AR{analysis.max_dets[-1]}"
    notes = {
        "AP": "IoU 0.50:0.95",
        "AP50": "IoU 0.50",
        "AP75": "IoU 0.75",
        "APs": "small objects",
        "APm": "medium objects",
        "APl": "large objects",
        most: "recall",
    }
    cards = [Card(name, _percent(numbers[name]), note) for name, note in notes.items()]
    f1 = _percent(best.f1) if best else "-"
    return [*cards, Card("F1", f1, f"at score {analysis.threshold:.2f}")]


def _percent(value: float) -> str:
    return "-" if or_none(value) is None else f"{100 * value:.1f}"


def _series(curves: Curves) -> list[Series]:
    return [
        Series("precision", "c1", curves.precision),
        Series("recall", "c2", curves.recall),
        Series("F1", "c3", curves.f1),
    ]


def _curve_data(analysis: Analysis) -> dict[str, Any]:
    """Curves of each class for the script of the page, in thousandths."""
    swept = analysis.thresholds
    return {
        name: {
            "precision": _thousandths(curves.precision),
            "recall": _thousandths(curves.recall),
            "point": [round(value, 4) for value in point] if point else None,
        }
        for name, curves, point in (
            ("all classes", swept.curves, swept.best),
            *zip(analysis.matching.truth.names, swept.class_curves, swept.class_best, strict=True),
        )
    }


def _thousandths(values: NDArray[np.float64]) -> list[int | None]:
    return [None if np.isnan(value) else round(1000 * value) for value in values.tolist()]


def _losses(analysis: Analysis, table: Table) -> list[dict[str, Any]]:
    """Rows of the bars of lost AP, their widths in percent of the longest."""
    longest = max(*analysis.errors.lost.values(), 1e-9)
    return [
        {
            "name": name,
            "points": points,
            "count": count,
            "meaning": meaning,
            "width": 100 * max(lost, 0) / longest,
        }
        for (name, points, count, meaning), lost in zip(
            table.rows, analysis.errors.lost.values(), strict=True
        )
    ]


def _confusion(analysis: Analysis) -> str:
    """The matrix of all classes, or of those that are confused most, with background last."""
    names, rows = (*analysis.matching.truth.names, "background"), most_confused(analysis.confusion)
    return confusion_chart([names[k] for k in rows], analysis.confusion[np.ix_(rows, rows)])


def _most_changed(comparison: Comparison) -> list[Any]:
    rows = sorted(comparison.classes, key=lambda d: -abs(d.change))[:MOST_INTERVALS]
    return [comparison.ap, *rows]


def _worst(analysis: Analysis, images: ImageFolder) -> list[Shot]:
    counts, shots = analysis.images, []
    for i in counts.worst(WORST):
        picture = images.read(i)
        if picture is not None:
            drawn = to_data_uri(draw_outcomes(picture, analysis, i, PICTURE))
            note = f"{counts.correct[i]} right, {counts.wrong[i]} wrong, {counts.missed[i]} missed"
            shots.append(Shot(file_name(analysis, i), note, (drawn,)))
    return shots


def _suspects(analysis: Analysis, images: ImageFolder) -> list[Shot]:
    shots = []
    for s in analysis.suspects[:SUSPECTS]:
        picture = images.read(s.image)
        if picture is not None:
            says = {
                "no label": f"no label; found {s.found}",
                "other class": f"labelled {s.label}; found {s.found}",
                "not found": f"labelled {s.label}; nothing found",
                "two labels": f"labelled {s.label} and {s.found}",
            }[s.kind]
            drawn = to_data_uri(draw_suspect(picture, s, DETAIL))
            shots.append(Shot(says, f"{file_name(analysis, s.image)}, {number(s.suspicion)[:4]}", (drawn,)))
    return shots


def _changed(before: Analysis, after: Analysis, comparison: Comparison, images: ImageFolder) -> list[Shot]:
    shots = []
    for change in comparison.images[:CHANGED]:
        picture = images.read(change.image)
        if picture is not None:
            drawn = (to_data_uri(draw_outcomes(picture, a, change.image, PICTURE)) for a in (before, after))
            note = f"errors: {change.before} before, {change.after} after"
            shots.append(Shot(file_name(after, change.image), note, tuple(drawn)))
    return shots
