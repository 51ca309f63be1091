"""The result of a benchmark as JSON, as Markdown, as rows for a terminal, and as one line to cite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfine_cli.bench import published
from dfine_cli.bench.budget import Fit
from dfine_cli.bench.environment import Environment
from dfine_cli.bench.gpu import EXTRA, UNKNOWN
from dfine_cli.bench.protocols import BenchProtocol
from dfine_cli.bench.roofline import T4, Calibration, Estimate
from dfine_cli.bench.run import PICTURE_SIZE, Row

SCHEMA_VERSION = 1
"""Version of the JSON layout."""

INSIDE = {
    "engine": "network and choice of the best detections (post-processing in the graph); float images and their "
    "sizes are already on the device, results stay there; on a CUDA device by the events of the device",
    "pre": f"resize of a decoded {PICTURE_SIZE[1]}x{PICTURE_SIZE[0]} RGB picture by Pillow, conversion, copy to "
    "the device",
    "post": "copy of labels, boxes and scores to the host, sorting by image; there is no NMS",
    "total": "pre, engine and post one after the other; decoding of image files is outside",
}
"""What is inside the clock of each series."""

HEADER = ("model", "backend", "precision", "input", "batch", "median", "p90", "p99", "mean", "img/s")
STAGE_HEADER = ("pre", "engine", "post", "total")


@dataclass(frozen=True)
class Report:
    """All that one command found.

    Attributes:
        created: When, in ISO 8601 with the offset from UTC.
        protocol: How it was measured.
        environment: On what.
        rows: What was measured; empty for an estimate alone.
        fit: The search for a budget; None if there was none.
        calibration: Of the estimates; None without estimates.
        estimates: Latencies estimated for a T4.
        notes: What else a reader must know.
    """

    created: str
    protocol: BenchProtocol
    environment: Environment
    rows: tuple[Row, ...]
    fit: Fit | None = None
    calibration: Calibration | None = None
    estimates: tuple[Estimate, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def on_t4(self) -> bool:
        """Whether it was measured on a T4."""
        return self.environment.gpu is not None and published.is_t4(self.environment.gpu.name)

    def published_ms(self, row: Row) -> float | None:
        """The published latency of the row's size, if the row was measured on a T4."""
        return published.LATENCY_MS.get(row.size or "") if self.on_t4 and row.on_gpu else None


def quoted_ms(row: Row, protocol: BenchProtocol) -> float:
    """The figure that the protocol quotes, in milliseconds."""
    return row.engine.mean if protocol.headline == "mean" else row.engine.p50


def ap_difference(row: Row, rows: Sequence[Row]) -> float | None:
    """AP of a row less that of the first one of the same model; None for that one, or where AP is not known."""
    first = next(other for other in rows if other.source == row.source)
    return None if row is first or not (row.score and first.score) else row.score.ap - first.score.ap


def cite(row: Row, report: Report) -> str:
    """One line that says all that a reader needs to measure it again."""
    environment, stats = report.environment, row.engine
    what = "mean" if report.protocol.headline == "mean" else "median"
    height, width = row.input_size
    driver = environment.gpu.driver if environment.gpu else "unknown"
    runtime = (
        f"{environment.device}, driver {driver}"
        if row.on_gpu
        else f"{environment.cpu}, {environment.threads} threads"
    )
    accuracy = (
        f"; AP {row.score.ap:.4f} on {row.score.annotations} ({row.score.images} images)" if row.score else ""
    )
    throttled = f"; throttled: {', '.join(row.throttles)}" if row.throttles else ""
    return (
        f"{row.model} ({_source(row)}), {row.backend} {row.precision}, {height}x{width}, batch {row.batch}: "
        f"{quoted_ms(row, report.protocol):.2f} ms {what} (p90 {stats.p90:.2f}, p99 {stats.p99:.2f}, {stats.runs} passes, "
        f"engine only, protocol {report.protocol.title}) on {runtime}; dfine {environment.dfine}, "
        f"{_version_of(row.backend, environment)}; {report.created[:10]}{accuracy}{throttled}"
    )


def _source(row: Row) -> str:
    """The name of the file with the beginning of its hash; a size has random weights."""
    return f"{Path(row.source).name}, sha256 {row.sha256[:12]}" if row.sha256 else "random weights"


def _version_of(backend: str, environment: Environment) -> str:
    """The runtime of a backend with its version: that which its name begins with, else PyTorch."""
    names = [name for name in environment.packages if backend.startswith(name)] or ["torch"]
    return f"{names[-1]} {environment.packages.get(names[-1], 'unknown')}"


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and cells: milliseconds of the engine, medians of the stages, memory and AP where there are any.

    The difference of AP is that to the first row of the same model.
    """
    staged = any(row.stages for row in rows)
    scored = any(row.score for row in rows)
    header = HEADER + (STAGE_HEADER if staged else ()) + ("MB",) + (("AP", "AP diff") if scored else ())
    cells = []
    for row in rows:
        stages = [_ms(row.stages[name].p50) if row.stages else "-" for name in STAGE_HEADER] if staged else []
        memory = row.device_peak_mb or row.host_peak_mb
        cells.append(
            (
                row.model,
                row.backend,
                row.precision,
                f"{row.input_size[0]}x{row.input_size[1]}",
                str(row.batch),
                *(_ms(value) for value in (row.engine.p50, row.engine.p90, row.engine.p99, row.engine.mean)),
                f"{row.images_per_s:.1f}",
                *stages,
                "-" if memory is None else f"{memory:.0f}",
                *((_ap(row), _difference(ap_difference(row, rows))) if scored else ()),
            )
        )
    return header, cells


def estimate_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and cells of the estimates for a T4."""
    parts = list(report.estimates[0].parts_ms) if report.estimates else []
    header = ("model", "input", "classes", "GFLOPs", "T4 ms (estimate)", *parts)
    return header, [
        (
            e.model,
            f"{e.input_size[0]}x{e.input_size[1]}",
            str(e.num_classes),
            f"{e.gflops:.2f}",
            f"{e.latency_ms:.2f}",
            *(f"{e.parts_ms[part]:.2f}" for part in parts),
        )
        for e in report.estimates
    ]


def estimate_note(calibration: Calibration) -> str:
    """What the estimates are, and how far to trust them."""
    left_out = ", ".join(f"{size.upper()} {error:+.1%}" for size, error in calibration.left_out.items())
    return (
        f"Estimated, not measured: a roofline of every layer in half precision ({T4.flops_per_s['tensor'] / 1e12:.0f} "
        f"TFLOP/s, {T4.bytes_per_s / 1e9:.0f} GB/s) times {calibration.factor:.2f} plus "
        f"{calibration.launch_ms * 1000:.2f} us a kernel, fitted to the five published latencies at 640x640. "
        f"Predicted from the other four each is off by {left_out} (mean {calibration.mean_error:.1%}, worst "
        f"{calibration.worst_error:.1%}); no published latency checks it at other input sizes."
    )


def fit_line(fit: Fit) -> str:
    """What the search for a budget found, in a sentence."""
    tried = ", ".join(f"{size.upper()} {ms:.2f} ms" for size, ms in fit.tried.items())
    found = f"{fit.size.upper()} is the largest size that fits" if fit.size else "no size fits"
    return f"{found} into {fit.budget_ms:g} ms ({tried})."


def t4_lines(report: Report) -> list[str]:
    """Each measured D-FINE beside its published latency if this is a T4; else that it is not one."""
    if not report.on_t4:
        gpu = report.environment.gpu
        if gpu and gpu.name == UNKNOWN:
            return [
                f'The GPU is not known (`pip install "dfine-cli[{EXTRA}]"` tells it): only figures of a T4 compare with the published ones.'
            ]
        return [
            f"This is not a T4 but {report.environment.device}: its figures do not compare with the published ones."
        ]
    lines = []
    for row in report.rows:
        theirs, ours = report.published_ms(row), quoted_ms(row, report.protocol)
        if theirs is None:
            continue
        apart = published.differences(
            {
                "backend": row.backend,
                "precision": published.built_in(row.precision),
                "input size": f"{row.input_size[0]}x{row.input_size[1]}",
                "batch": str(row.batch),
                "protocol": report.protocol.title,
            }
        )
        lines.append(
            f"{row.model}, {row.backend} {row.precision}, batch {row.batch}: {ours:.2f} ms, published {theirs:.2f} ms, ratio "
            f"{ours / theirs:.2f}{'; not the same conditions (' + '; '.join(apart) + ')' if apart else ''}"
        )
    return lines or ["None of the models has a published latency."]


def to_json(report: Report) -> dict[str, Any]:
    """Plain values with ``schema_version``; times are milliseconds, AP is a fraction."""
    rows = []
    for row in report.rows:
        values = asdict(row)
        values["engine"] = row.engine._asdict()
        values["stages"] = row.stages and {name: stats._asdict() for name, stats in row.stages.items()}
        values["readings"] = [reading._asdict() for reading in row.readings]
        values["score"] = row.score and row.score._asdict()
        quoted, theirs = quoted_ms(row, report.protocol), report.published_ms(row)
        values |= {
            "quoted_ms": quoted,
            "images_per_s": row.images_per_s,
            "throttles": list(row.throttles),
            "ap_difference": ap_difference(row, report.rows),
            "published_ms": theirs,
            "ratio_to_published": None if theirs is None else quoted / theirs,
            "cite": cite(row, report),
        }
        rows.append(values)
    environment = asdict(report.environment)
    environment["gpu"] = report.environment.gpu and report.environment.gpu._asdict()
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "dfine bench",
        "created": report.created,
        "protocol": asdict(report.protocol),
        "inside_the_clock": INSIDE,
        "environment": {**environment, "busy": report.environment.busy},
        "on_t4": report.on_t4,
        "rows": rows,
        "budget": report.fit and report.fit._asdict(),
        "t4_estimate": report.calibration
        and {
            "is_estimate": True,
            "note": estimate_note(report.calibration),
            "calibration": {
                **report.calibration._asdict(),
                "mean_error": report.calibration.mean_error,
                "worst_error": report.calibration.worst_error,
            },
            "models": [e._asdict() for e in report.estimates],
        },
        "notes": list(report.notes),
    }


def warnings(report: Report) -> list[str]:
    """What speaks against quoting the figures."""
    environment = report.environment
    found = list(report.notes)
    if report.rows and environment.busy:
        found.append(
            f"The machine was busy: load {environment.load:.1f} on {environment.cpus} CPUs before the start. Do not "
            "quote these figures."
        )
    for row in report.rows:
        if row.throttles:
            found.append(
                f"{row.model}, {row.backend}: the GPU was slowed down by {', '.join(row.throttles)}."
            )
    return found


def _ms(value: float) -> str:
    return f"{value:.2f}"


def _ap(row: Row) -> str:
    return f"{row.score.ap:.4f}" if row.score else "-"


def _difference(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
