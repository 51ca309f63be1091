"""One picture of a benchmark: latency against AP where AP is known, else latencies as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfine_cli.bench import published
from dfine_cli.bench.report import Report, quoted_ms
from dfine_cli.bench.run import Row

INK, GRID = "#262a33", "#e3e6eb"
COLOURS = ("#1d78d8", "#ff9f1c", "#2a9d50", "#c8443c", "#7a4fbf", "#00838f", "#8d6e63", "#5f6b7a")
"""One a backend, again from the first if there are more."""


def write_chart(report: Report, path: Path) -> None:
    """Write a PNG; the published points are drawn on a T4 alone, as they do not compare with others.

    Args:
        report: At least one row.
        path: File to write.
    """
    scored = [row for row in report.rows if row.score]
    figure = Figure(
        figsize=(8, 4.6 if scored else 1.8 + 0.42 * len(report.rows)), dpi=120, layout="constrained"
    )
    axes = figure.add_subplot()
    backends = list(dict.fromkeys(row.backend for row in report.rows))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(backends)}
    if scored:
        _scatter(axes, scored, report, colours)
    else:
        _bars(axes, report.rows, report, colours)
    statistic = "mean" if report.protocol.headline == "mean" else "median"
    axes.set_xlabel(f"engine latency, {statistic}, ms per batch", fontsize=9, color=INK)
    axes.set_title(
        f"{report.environment.device}, {report.protocol.title}", loc="left", fontsize=9, color=INK, wrap=True
    )
    axes.grid(color=GRID, linewidth=0.8, axis="both" if scored else "x")
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlim(left=0)
    figure.legend(frameon=False, fontsize=8, labelcolor=INK, loc="outside lower center", ncols=4)
    figure.savefig(path, format="png")


def _scatter(axes: Axes, rows: Sequence[Row], report: Report, colours: dict[str, str]) -> None:
    for backend, colour in colours.items():
        points = [
            (quoted_ms(row, report.protocol), 100 * row.score.ap, row)
            for row in rows
            if row.score and row.backend == backend
        ]
        if points:
            axes.plot(*zip(*[p[:2] for p in points], strict=True), "o", color=colour, label=backend)
        for latency, ap, row in points:
            _label(axes, f"{row.model}, batch {row.batch}", latency, ap, centred=True)
    if report.on_t4:
        latencies, aps = list(published.LATENCY_MS.values()), list(published.AP.values())
        axes.plot(latencies, aps, "o--", color=INK, markerfacecolor="none", linewidth=0.8, label="published")
        for size, latency in published.LATENCY_MS.items():
            _label(axes, size.upper(), latency, published.AP[size], centred=True)
    axes.set_ylabel("AP, percent", fontsize=9, color=INK)
    axes.margins(0.2)


def _bars(axes: Axes, rows: Sequence[Row], report: Report, colours: dict[str, str]) -> None:
    for backend, colour in colours.items():
        own = [(place, row) for place, row in enumerate(rows) if row.backend == backend]
        latencies = [quoted_ms(row, report.protocol) for _, row in own]
        reach = [max(row.engine.p90 - ms, 0) for (_, row), ms in zip(own, latencies, strict=True)]
        axes.barh([place for place, _ in own], latencies, color=colour, label=f"{backend} (line to p90)")
        axes.errorbar(
            latencies,
            [place for place, _ in own],
            xerr=([0] * len(own), reach),
            fmt="none",
            ecolor=INK,
            elinewidth=1,
        )
        for (place, _), latency in zip(own, latencies, strict=True):
            _label(axes, f"{latency:.2f}", latency, place)
    axes.set_yticks(range(len(rows)), [f"{row.model}, batch {row.batch}" for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.15)


def _label(axes: Axes, text: str, x: float, y: float, centred: bool = False) -> None:
    offset, side = ((0, 7), "center") if centred else ((5, 4), "left")
    axes.annotate(text, (x, y), offset, textcoords="offset points", ha=side, fontsize=8, color=INK)
