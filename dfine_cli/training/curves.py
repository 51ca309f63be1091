"""The curves of a run as one picture: loss, AP of both sets of weights, learning rate."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dfine_cli.whole_file import whole_file

Row = dict[str, Any]

INK, GRID = "#262a33", "#e3e6eb"
EMA, RAW, PLAIN = "#1d78d8", "#ff9f1c", "#2a9d50"


def write_curves(metrics: Sequence[Row], path: Path) -> None:
    """Write a PNG with the curves of ``metrics``, whole or not at all; what a row does not have is left out.

    Args:
        metrics: One row per epoch with ``epoch`` (from 1) and any of ``loss``, ``lr``, ``ap_ema``, ``ap_raw``,
            ``ap50_ema``, ``ap50_raw``.
        path: File to write.
    """
    figure = Figure(figsize=(13, 3.8), dpi=110, layout="constrained")
    for axes, (title, draw) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        draw(axes, metrics)
        _dress(axes, title)
    with whole_file(path) as part:
        figure.savefig(part, format="png")


def _loss(axes: Axes, metrics: Sequence[Row]) -> None:
    _plot(axes, metrics, "loss", "loss", PLAIN)


def _average_precision(axes: Axes, metrics: Sequence[Row]) -> None:
    for weights, colour in (("ema", EMA), ("raw", RAW)):
        _plot(axes, metrics, f"ap50_{weights}", f"AP50 {weights}", colour, line="--")
        _plot(axes, metrics, f"ap_{weights}", f"AP {weights}", colour, best=weights == "ema")
    axes.set_ylim(bottom=0)


def _learning_rate(axes: Axes, metrics: Sequence[Row]) -> None:
    _plot(axes, metrics, "lr", "lr", INK)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:.3g}")


PANELS: dict[str, Callable[[Axes, Sequence[Row]], None]] = {
    "training loss": _loss,
    "average precision (val)": _average_precision,
    "learning rate": _learning_rate,
}
"""Title to drawing, left to right."""


def _plot(
    axes: Axes, metrics: Sequence[Row], key: str, label: str, colour: str, line: str = "-", best: bool = False
) -> None:
    """One curve; single points are marked, as a line through one point does not show."""
    points = [(row["epoch"], row[key]) for row in metrics if row.get(key) is not None]
    if not points:
        return
    epochs, values = zip(*points, strict=True)
    marker = "o" if len(points) < 25 else ""
    axes.plot(epochs, values, line, color=colour, label=label, marker=marker, markersize=3, linewidth=1.6)
    if best:
        at, value = max(points, key=lambda point: point[1])
        axes.annotate(
            f"{value:.3f}",
            (at, value),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=colour,
        )


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_xlabel("epoch", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.03, y=0.12)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    if len(axes.lines) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
    elif not axes.lines:
        axes.text(0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center", va="center", color=INK)
