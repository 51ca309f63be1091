"""Charts as SVG text for a page: they follow its colours, need no script, and every mark says what it is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.evaluation.analysis_report import describe, signed
from dfine_cli.evaluation.calibration import BINS, Calibration
from dfine_cli.evaluation.compare import Difference
from dfine_cli.evaluation.thresholds import GRID

WIDTH, HEIGHT = 640, 320
"""Size of the charts with axes; a page scales them."""
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 40
"""Margins around the area of the data."""
ROW = 24
"""Height of a row of a list."""
CELL = 26
"""Side of a cell of a matrix."""
LETTER = 7.2
"""Width of a letter, generously."""


class Series(NamedTuple):
    """A line over ``GRID``."""

    name: str
    css: str
    """Class of its colour: ``c1`` to ``c4``."""
    values: NDArray[np.float64]
    """[S] in [0, 1]; NaN leaves a gap."""


def curves_chart(series: Sequence[Series], threshold: float | None) -> str:
    """Lines over the score threshold, and a mark where the threshold is."""
    parts = [_axes("score threshold", "")]
    if threshold is not None:
        x = _x(threshold)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        side = "end" if threshold > 0.75 else "start"
        shift = -6 if threshold > 0.75 else 6
        parts.append(
            f'<text class="strong" x="{x + shift:.1f}" y="{TOP + 12}" text-anchor="{side}">{threshold:.3f}</text>'
        )
    for line in series:
        parts.append(
            f'<path class="line {line.css}" data-name="{escape(line.name)}" d="{line_path(line.values)}"/>'
        )
    return _svg(WIDTH, HEIGHT, parts, "curves")


def line_path(values: NDArray[np.float64]) -> str:
    """The path of a line over ``GRID``, with a gap where values are NaN."""
    steps, pen = [], "M"
    for x, y in zip(GRID.tolist(), values.tolist(), strict=True):
        if np.isnan(y):
            pen = "M"
            continue
        steps.append(f"{pen}{_x(x):.1f} {_y(y):.1f}")
        pen = "L"
    return "".join(steps)


def reliability_chart(calibration: Calibration) -> str:
    """Precision of each bin of scores beside the diagonal, where it should be."""
    parts = [_axes("score", "precision")]
    for i, (count, score, precision) in enumerate(
        zip(calibration.counts, calibration.confidence, calibration.precision, strict=True)
    ):
        if not count:
            continue
        x, width = _x(i / BINS) + 2, _x(1 / BINS) - _x(0) - 4
        title = f"{count} detections, mean score {score:.3f}, precision {precision:.3f}"
        low, high = sorted((_y(float(score)), _y(float(precision))))
        kind = "over" if score > precision else "under"
        parts.append(
            f'<g><title>{title}</title><rect class="bar" x="{x:.1f}" y="{_y(float(precision)):.1f}" '
            f'width="{width:.1f}" height="{max(0.5, _y(0) - _y(float(precision))):.1f}"/>'
            f'<rect class="{kind}" x="{x:.1f}" y="{low:.1f}" width="{width:.1f}" height="{high - low:.1f}"/></g>'
        )
    parts.append(f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    return _svg(WIDTH, HEIGHT, parts, "reliability")


def confusion_chart(names: Sequence[str], matrix: NDArray[np.int64]) -> str:
    """A matrix as coloured cells: rows are the truth and their colour the share of the row.

    Args:
        names: [n] of rows and columns.
        matrix: [n, n] counts.
    """
    shown = [_short(name, 18) for name in names]
    left = 12 + LETTER * max(map(len, shown))
    top = 28 + 0.72 * LETTER * max(map(len, shown))
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    parts = []
    for i, name in enumerate(shown):
        y = top + i * CELL
        x = left + i * CELL + CELL / 2
        parts.append(f'<text x="{left - 6:.0f}" y="{y + 17:.0f}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<text transform="translate({x + 3:.0f} {top - 6:.0f}) rotate(-45)">{escape(name)}</text>'
        )
        for j in range(len(names)):
            parts.append(
                _cell(left + j * CELL, y, int(matrix[i, j]), float(share[i, j]), i == j, names[i], names[j])
            )
    side = len(names) * CELL
    return _svg(left + side + 0.72 * LETTER * len(shown[-1]) + 12, top + side + 8, parts, "confusion")


def _cell(x: float, y: float, count: int, share: float, right: bool, truth: str, found: str) -> str:
    if not count:
        return f'<rect class="cell" x="{x:.0f}" y="{y:.0f}" width="{CELL - 2}" height="{CELL - 2}"/>'
    title = escape(f"{truth} taken for {found}: {count} ({share:.1%})")
    opacity = 0.12 + 0.88 * min(share, 1) ** 0.7
    css = "right" if right else "wrong"
    number = f"{count}" if count < 1000 else f"{count / 1000:.0f}k"
    return (
        f'<g><title>{title}</title><rect class="cell" x="{x:.0f}" y="{y:.0f}" width="{CELL - 2}" height="{CELL - 2}"/>'
        f'<rect class="{css}" x="{x:.0f}" y="{y:.0f}" width="{CELL - 2}" height="{CELL - 2}" opacity="{opacity:.2f}"/>'
        f'<text class="count{" light" if opacity > 0.55 else ""}" x="{x + CELL / 2 - 1:.0f}" y="{y + 16:.0f}" '
        f'text-anchor="middle">{number}</text></g>'
    )


def interval_chart(differences: Sequence[Difference], confidence: float) -> str:
    """Change of AP with its interval, one row each, around a line at zero."""
    label = 16 + LETTER * max((len(_short(d.name, 22)) for d in differences), default=0)
    reach = max(
        (abs(v) for d in differences for v in (d.low, d.high, d.change) if not np.isnan(v)), default=0
    )
    reach = max(reach, 1e-3) * 1.05
    middle, scale = (label + WIDTH - 90) / 2, (WIDTH - 90 - label) / 2 / reach
    height = len(differences) * ROW + 8
    parts = [f'<line class="mark" x1="{middle:.1f}" x2="{middle:.1f}" y1="0" y2="{height}"/>']
    for i, d in enumerate(differences):
        y = 4 + i * ROW + ROW / 2
        strong = ' class="strong"' if i == 0 else ""
        ends = [middle + scale * (0 if np.isnan(v) else v) for v in (d.low, d.high)]
        title = f"{d.name}: {describe(d, confidence)}"
        parts.append(
            f'<g class="{d.verdict}"><title>{escape(title)}</title>'
            f'<text{strong} x="{label - 8:.0f}" y="{y + 4:.1f}" text-anchor="end">{escape(_short(d.name, 22))}</text>'
            f'<line class="interval" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<circle class="dot" cx="{middle + scale * d.change:.1f}" cy="{y:.1f}" r="{5 if i == 0 else 4}"/>'
            f'<text{strong} x="{WIDTH - 8}" y="{y + 4:.1f}" text-anchor="end">{signed(d.change)}</text></g>'
        )
    return _svg(WIDTH, height, parts, "intervals")


def _axes(x_label: str, y_label: str) -> str:
    parts = []
    for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x, y = _x(value), _y(value)
        parts.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.1f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:.1f}</text>')
    parts.append(
        f'<text x="{(_x(0) + _x(1)) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{x_label}</text>'
    )
    if y_label:
        y = (_y(0) + _y(1)) / 2
        parts.append(
            f'<text transform="translate(12 {y:.0f}) rotate(-90)" text-anchor="middle">{y_label}</text>'
        )
    return "".join(parts)


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _y(value: float) -> float:
    return HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _svg(width: float, height: float, parts: Sequence[str], css: str) -> str:
    return (
        f'<svg class="{css}" viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img">'
        f"{''.join(parts)}</svg>"
    )
