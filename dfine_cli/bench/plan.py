"""From what a user asks for to the report: the composition root of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dfine_cli.bench.budget import Fit, fit_budget
from dfine_cli.bench.environment import Environment, read_environment
from dfine_cli.bench.gpu import Gpu, info_without_nvml
from dfine_cli.bench.report import Report, quoted_ms
from dfine_cli.bench.run import BenchSpec, Job, Row, Scorer, Tell, bench
from dfine_cli.bench.runner import TORCH_KINDS, Subject, backends_for
from dfine_cli.bench.subjects import find_subject, parse_budget
from dfine_cli.bench.timing import Clock
from dfine_cli.errors import MissingError, UsageError

if TYPE_CHECKING:
    from dfine_cli.bench.roofline import Calibration, Estimate


@dataclass(frozen=True)
class Request:
    """What a user asks for, checked as far as that goes without opening anything.

    Attributes:
        jobs: What to measure; empty with a budget.
        budget_ms: Find the largest size within; None to measure ``jobs``.
        budget_backend: What to find it on.
        spec: How to measure.
        estimate_only: Measure nothing, estimate only.
    """

    jobs: tuple[Job, ...]
    budget_ms: float | None
    budget_backend: str
    spec: BenchSpec
    estimate_only: bool


def make_request(
    models: Sequence[str], backends: Sequence[str], budget: str | None, spec: BenchSpec, estimate_only: bool
) -> Request:
    """What the words on the command line ask for.

    Args:
        models: Files, run folders and sizes.
        backends: Names of ``runner.BACKENDS``; none for the default of each model.
        budget: A time such as ``5ms`` in place of models.
        spec: How to measure.
        estimate_only: Measure nothing.

    Raises:
        UsageError: Nothing or too much is asked for, or something that does not exist.
    """
    if (budget is None) == (not models):
        raise UsageError(
            "give models to measure, or --budget, and not both",
            "for example `dfine bench n s` or `--budget 5ms`",
        )
    jobs = [
        Job(subject, backend)
        for subject in map(find_subject, models)
        for backend in backends_for(subject, backends)
    ]
    if estimate_only and (foreign := [job.subject for job in jobs if not _is_torch(job.subject)]):
        raise UsageError(
            f"{foreign[0].text}: only checkpoints and sizes can be estimated",
            "give the checkpoint it was made from",
        )
    if budget is None:
        return Request(tuple(jobs), None, "", spec, estimate_only)
    if len(backends) > 1 or len(spec.options.batches) > 1:
        raise UsageError(
            "--budget takes one --backend and one --batch",
            "for example --budget 5ms --backend fused --batch 1",
        )
    backend = backends_for(find_subject("n"), backends)[0]
    return Request((), parse_budget(budget), backend, spec, estimate_only)


def carry_out(request: Request, clock: Clock, score: Scorer | None, tell: Tell) -> Report:
    """Measure and estimate all that is asked for.

    Args:
        request: What is asked for.
        clock: Where time is read.
        score: Gives the AP of what was timed; None to leave it out.
        tell: Told what is going on.

    Raises:
        DfineError: Something cannot be opened or run.
    """
    with TemporaryDirectory(prefix="dfine-bench-") as folder:
        options = replace(request.spec.options, folder=Path(folder))
        request = replace(request, spec=replace(request.spec, options=options))
        return _carry_out(request, clock, score, tell)


def _carry_out(request: Request, clock: Clock, score: Scorer | None, tell: Tell) -> Report:
    options = request.spec.options
    gpu, silence = (None, None) if request.estimate_only else _open_gpu(options.device)
    environment = read_environment(options.threads, gpu.info if gpu else None)
    estimator = _Estimator(request.spec, tell)

    def measure(jobs: Sequence[Job]) -> list[Row]:
        return bench(jobs, request.spec, clock=clock, gpu=gpu, score=score, tell=tell)

    rows: list[Row] = []
    fit: Fit | None = None
    if request.budget_ms is not None:

        def latency_ms(size: str) -> float:
            subject = find_subject(size)
            estimated = estimator.estimate(subject)
            if request.estimate_only:
                return estimated.latency_ms
            rows.extend(measure([Job(subject, request.budget_backend)]))
            return quoted_ms(rows[-1], request.spec.protocol)

        fit = fit_budget(request.budget_ms, latency_ms)
    else:
        if not request.estimate_only:
            rows += measure(request.jobs)
        for subject in dict.fromkeys(job.subject for job in request.jobs if _is_torch(job.subject)):
            estimator.estimate(subject)
    return Report(
        created=datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
        protocol=request.spec.protocol,
        environment=_of_rows(environment, rows),
        rows=tuple(rows),
        fit=fit,
        calibration=estimator.calibration,
        estimates=tuple(estimator.estimates),
        notes=(
            *((silence,) if silence and any(row.on_gpu for row in rows) else ()),
            *(_unscored(rows) if score else ()),
        ),
    )


class _Estimator:
    """Estimates for a T4, calibrated when the first one is asked for."""

    def __init__(self, spec: BenchSpec, tell: Tell) -> None:
        self._options = spec.options
        self._tell = tell
        self.calibration: Calibration | None = None
        self.estimates: list[Estimate] = []

    def estimate(self, subject: Subject) -> Estimate:
        """The estimate for a checkpoint or a size."""
        from dfine_cli.bench.t4 import calibrate_t4, estimate_t4
        from dfine_cli.bench.torch_runner import load_source

        self._tell(f"{subject.text}: counting layers")
        if self.calibration is None:
            self.calibration = calibrate_t4()
        source = load_source(subject, self._options.input_size, self._options.num_classes)
        self.estimates.append(estimate_t4(source.model, source.name, source.input_size, self.calibration))
        return self.estimates[-1]


def _unscored(rows: Sequence[Row]) -> Iterator[str]:
    """What to know of a size where AP is asked for."""
    if sizes := dict.fromkeys(row.source for row in rows if row.sha256 is None):
        yield (
            f"No AP of {', '.join(sizes)}: a size has random weights. Give a checkpoint in its place; the data were "
            "used for the ranges of int8 alone."
        )


def _is_torch(subject: Subject) -> bool:
    return subject.kind in TORCH_KINDS


def _open_gpu(device: str) -> tuple[Gpu | None, str | None]:
    """The GPU that ``device`` may mean, or why it gives no readings."""
    name, _, number = device.partition(":")
    if name not in ("auto", "cuda"):
        return None, None
    try:
        return Gpu(int(number) if number.isdigit() else 0), None
    except MissingError as error:
        return None, f"No readings of the GPU: {error.message} ({error.hint})."


def _of_rows(environment: Environment, rows: Sequence[Row]) -> Environment:
    """The environment with the GPU that something ran on, and without one that nothing ran on."""
    device = next((row.device for row in rows if row.on_gpu), None)
    if device is None:
        return replace(environment, gpu=None)
    return environment if environment.gpu else replace(environment, gpu=info_without_nvml(device))
