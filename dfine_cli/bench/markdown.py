"""The report of a benchmark as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dfine_cli.bench import published
from dfine_cli.bench.report import (
    INSIDE,
    Report,
    cite,
    estimate_note,
    estimate_table,
    fit_line,
    t4_lines,
    table,
    warnings,
)


def to_markdown(report: Report, chart: str | None = None) -> str:
    """The whole report.

    Args:
        report: What was found.
        chart: Name of the chart's file, if there is one beside it.
    """
    environment = report.environment
    blocks = [f"# Latency on {environment.device}"]
    if report.rows:
        blocks.append(f"{report.created}, protocol **{report.protocol.title}**: {report.protocol.meaning}.")
    blocks += [f"> {line}" for line in warnings(report)]
    if report.rows:
        blocks += [
            "Milliseconds of the engine; pre, engine, post and total are medians of whole passes; MB is the peak "
            "memory of the device, on a CPU that of the process.",
            _table(*table(report.rows)),
        ]
        if chart:
            blocks.append(f"![latency]({chart})")
        blocks += ["## To cite", *(f"`{cite(row, report)}`" for row in report.rows)]
        blocks += ["## Inside the clock", _list(f"{name}: {what}" for name, what in INSIDE.items())]
        blocks += ["## Published latency", *t4_lines(report), f"Source: {published.SOURCE}."]
    if report.fit:
        blocks += ["## Budget", fit_line(report.fit)]
    if report.calibration and report.estimates:
        blocks += [
            "## Estimate for a T4",
            estimate_note(report.calibration),
            _table(*estimate_table(report)),
        ]
    blocks += ["## Environment", _list(_facts(report))]
    return "\n\n".join(blocks) + "\n"


def _facts(report: Report) -> list[str]:
    environment = report.environment
    facts = [
        f"dfine {environment.dfine}, Python {environment.python}, {environment.platform}",
        ", ".join(f"{name} {number}" for name, number in environment.packages.items()),
        f"{environment.cpu}, {environment.cpus} CPUs, {environment.threads} threads, load before the start "
        + ("unknown" if environment.load is None else f"{environment.load:.2f}"),
    ]
    gpu = environment.gpu
    if gpu:
        limit = "unknown" if gpu.power_limit_w is None else f"{gpu.power_limit_w:.0f} W"
        facts.append(f"{gpu.name}, driver {gpu.driver}, CUDA up to {gpu.cuda}, power limit {limit}")
    for row in report.rows:
        for reading in row.readings:
            known = ", ".join(
                f"{name} {value:g}"
                for name, value in reading._asdict().items()
                if isinstance(value, int | float)
            )
            facts.append(f"{row.model}, {row.backend}, batch {row.batch}: {known}")
    return [*facts, f"command: `{' '.join(environment.command)}`"]


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
