"""``dfine bench``: latency by a named protocol, in a report that can be quoted."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfine_cli.cli.console import StatusLine, print_json, print_out, print_table, say
from dfine_cli.cli.data import Split, find_data
from dfine_cli.cli.options import InputSizeOption, JsonOption, check_place, parse_input_size
from dfine_cli.cli.typed import refuse_typed
from dfine_cli.errors import CheckError, DfineError, Interrupted, UsageError

if TYPE_CHECKING:
    from dfine_cli.backends.detector import Detector
    from dfine_cli.bench.report import Report
    from dfine_cli.bench.run import Scorer
    from dfine_cli.data.layout import SplitFiles


CALIBRATION_IMAGES = 32


class Precision(str, Enum):
    """What to compute in."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class Protocol(str, Enum):
    """How to measure."""

    PUBLISHED = "published"
    SUSTAINED = "sustained"
    BURST = "burst"


MEASURING = (
    *("backend", "protocol", "device", "precision", "batch", "threads", "runs", "warmup", "turns"),
    *("data", "split", "images", "out"),
)
"""Parameters that an estimate, always of one image in half precision on a T4 and only printed, has no use for."""


def command(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Checkpoints, run folders, exported files, or sizes (n, s, m, l, x): latency does not depend on weights.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Instead of models: find the largest size within, as 5ms."),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="How to run it, repeatable: fused, eager, compiled, onnxruntime, onnxruntime-int8, "
            "onnxruntime-cuda, onnxruntime-tensorrt, openvino, openvino-f32, openvino-int8, tensorrt, tensorrt-graph.",
        ),
    ] = None,
    protocol: Annotated[Protocol, typer.Option(help="How to measure.")] = Protocol.SUSTAINED,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[
        Precision | None, typer.Option(help="What to compute in; an ONNX file has its own.")
    ] = None,
    input_size: InputSizeOption = None,
    batch: Annotated[
        str, typer.Option(metavar="N[,N...]", help="Images in one pass; each number is a row.")
    ] = "1",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all CPUs by default.")] = None,
    runs: Annotated[int | None, typer.Option(help="Passes to count, in place of the protocol's.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Passes before, in place of the protocol's.")] = None,
    turns: Annotated[int, typer.Option(min=1, help="Let the models take turns so often.")] = 1,
    num_classes: Annotated[
        int, typer.Option("--num-classes", min=1, help="Classes of a model named by its size.")
    ] = 80,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="Score the AP of what was timed on this dataset, as `dfine eval` does."
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which part of the dataset.")] = Split.VAL,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if DATA is a JSON file.")] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Measure nothing: only estimate the latency on a T4.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the report goes.")] = Path("bench"),
    as_json: JsonOption = False,
) -> None:
    """Measure latency by a named protocol and write a report: JSON, Markdown and a chart.

    Engine and whole passes are timed apart, per batch size, with percentiles, memory and the state of the GPU.
    PyTorch models also get an estimate for a T4, marked as such.
    """
    from dfine_cli.backends.threads import count_cpus
    from dfine_cli.bench.plan import carry_out, make_request
    from dfine_cli.bench.protocols import PROTOCOLS
    from dfine_cli.bench.run import BenchSpec
    from dfine_cli.bench.runner import RunnerOptions
    from dfine_cli.bench.subjects import parse_batches
    from dfine_cli.bench.timing import SystemClock

    if estimate:
        why = "does not go with --estimate, which measures nothing"
        refuse_typed(context, MEASURING, why, "leave out {option}, or --estimate")
    check_place("--out", out)
    if out.is_file():
        raise UsageError(f"--out {out}: is a file", "give a folder for the reports")
    files = find_data(data, split, images) if data else None
    size = parse_input_size(input_size)
    spec = BenchSpec(
        protocol=PROTOCOLS[protocol.value].with_runs(warmup, runs),
        options=RunnerOptions(
            device=device,
            threads=threads or count_cpus(),
            precision=precision.value if precision else None,
            input_size=(size[0], size[1]) if size else None,
            num_classes=num_classes,
            batches=parse_batches(batch),
            calibration=_calibration_images(data, images) if data else (),
        ),
        turns=turns,
    )
    request = make_request(models or (), backend or (), budget, spec, estimate)
    score = _scorer(files) if files else None
    status = StatusLine()
    try:
        report = carry_out(request, SystemClock(), score, status.update)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted: no report was written",
            "run it again" if estimate else "for a quick look: --runs 20 --warmup 5, or fewer models",
        ) from None
    finally:
        status.close()
    unmet = report.fit is not None and report.fit.size is None
    _show(report, out, as_json, failed=unmet)
    if report.fit and unmet:
        from dfine_cli.bench.report import fit_line

        raise CheckError(fit_line(report.fit), "try a smaller --input-size, or another backend or device")


def _calibration_images(data: Path, images: Path | None) -> tuple[Path, ...]:
    """Some images for int8, of the training data where DATA has them."""
    from dfine_cli.data.coco import load_coco

    try:
        files = find_data(data, Split.TRAIN, images)
    except DfineError:
        files = find_data(data, Split.VAL, images)
    file = load_coco(files.json)
    step = max(1, len(file.images) // CALIBRATION_IMAGES)
    return tuple(file.locate(row, files.images) for row in range(0, len(file.images), step))[
        :CALIBRATION_IMAGES
    ]


def _scorer(files: "SplitFiles") -> "Scorer":
    """Gives the AP on a split, one image at a time, as exported files may take no more."""
    from dfine_cli.bench.run import Score
    from dfine_cli.evaluation.score import score_detector

    def score(detector: "Detector") -> Score:
        result = score_detector(detector, files, batch=1, workers=0).result
        return Score(result.ap, result.ap50, result.images, str(files.json))

    return score


def _show(report: "Report", out: Path, as_json: bool, failed: bool) -> None:
    """Write the files of a measurement; print the result, but as JSON only if the command does not fail."""
    from dfine_cli.bench.files import write_report
    from dfine_cli.bench.report import (
        cite,
        estimate_note,
        estimate_table,
        fit_line,
        t4_lines,
        table,
        to_json,
        warnings,
    )

    written = write_report(report, out) if report.rows else []
    if as_json and not failed:
        print_json({**to_json(report), "files": [str(path) for path in written]})
    elif not as_json:
        if report.rows:
            header, cells = table(report.rows)
            print_table(cells, header)
            print_out()
            for line in (*(cite(row, report) for row in report.rows), *t4_lines(report)):
                print_out(line)
        if report.calibration:
            header, cells = estimate_table(report)
            print_out()
            print_table(cells, header)
            print_out(estimate_note(report.calibration))
        if report.fit:
            print_out(f"\n{fit_line(report.fit)}")
    for line in warnings(report):
        say(f"warning: {line}")
    for path in written:
        say(f"written: {path}")
