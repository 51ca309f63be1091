"""Jobs x protocol -> rows: opens each model, times its engine and the whole pass, and scores what it timed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dfine_cli.backends.detector import Detector
from dfine_cli.bench import memory
from dfine_cli.bench.gpu import Gpu, GpuState
from dfine_cli.bench.protocols import BenchProtocol
from dfine_cli.bench.runner import BACKENDS, Runner, RunnerOptions, Subject
from dfine_cli.bench.timing import Clock, Stats, repeat, time_ms
from dfine_cli.data.preprocess import resize
from dfine_cli.errors import DfineError
from dfine_cli.types import Size

PICTURE_SIZE: Size = (480, 640)
"""(height, width) in pixels of the picture that end-to-end passes begin with, typical for COCO."""


class Job(NamedTuple):
    """One model on one backend."""

    subject: Subject
    backend: str


class Stages(NamedTuple):
    """Milliseconds of one end-to-end pass over a batch, from decoded pictures to boxes in host memory."""

    pre: float
    """Resizing, conversion and the way to the device."""
    engine: float
    post: float
    """The way back, and sorting by image."""
    total: float


class Score(NamedTuple):
    """COCO scores in [0, 1] of what was timed."""

    ap: float
    ap50: float
    images: int
    annotations: str


Scorer = Callable[[Detector], Score]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class BenchSpec:
    """What to measure of every job.

    Attributes:
        protocol: How long, and with which pauses.
        options: What the backends are told; each of its batch sizes is a row.
        turns: How often the jobs take turns. With more than one a busy moment of the machine hits all of them,
            and the medians of the turns show how far it is to be trusted.
    """

    protocol: BenchProtocol
    options: RunnerOptions
    turns: int = 1


@dataclass(frozen=True)
class Row:
    """What was measured of one job with one batch size."""

    model: str
    size: str | None
    source: str
    sha256: str | None
    """Of the file; None for a size."""
    backend: str
    device: str
    precision: str
    input_size: Size
    num_classes: int | None
    batch: int
    engine: Stats
    stages: dict[str, Stats] | None
    """By the names of ``Stages``; None if the protocol has none."""
    turn_p50: tuple[float, ...]
    """Median of the engine in each turn, ms."""
    host_peak_mb: float | None
    device_peak_mb: float | None
    readings: tuple[GpuState, ...]
    """Of the GPU: before and after each series."""
    score: Score | None

    @property
    def images_per_s(self) -> float:
        """Throughput of the engine by its median."""
        return self.batch * 1000 / self.engine.p50

    @property
    def on_gpu(self) -> bool:
        """Whether it ran on a GPU of NVIDIA."""
        return self.device.startswith("cuda")

    @property
    def throttles(self) -> tuple[str, ...]:
        """What slowed the GPU down in any reading."""
        return tuple(sorted({name for reading in self.readings for name in reading.throttles or ()}))


@dataclass
class _Series:
    """Times of one job with one batch size, turn by turn."""

    engine: list[float] = field(default_factory=list)
    stages: list[Stages] = field(default_factory=list)
    turn_p50: list[float] = field(default_factory=list)
    readings: list[GpuState] = field(default_factory=list)
    host_peaks: list[float] = field(default_factory=list)


def bench(
    jobs: Sequence[Job],
    spec: BenchSpec,
    *,
    clock: Clock,
    gpu: Gpu | None = None,
    score: Scorer | None = None,
    tell: Tell = lambda text: None,
) -> list[Row]:
    """Measure every job with every batch size, in their order.

    Args:
        jobs: Models and backends.
        spec: What to measure of each.
        clock: Where time is read.
        gpu: Read before and after each series, outside of the clock.
        score: Gives the AP of a trained model; it is called after its last turn.
        tell: Told what is going on.

    Raises:
        DfineError: A model cannot be opened, or there is no memory for a batch.
    """
    rows: list[Row] = []
    runners: dict[int, Runner] = {}
    series = {(number, batch): _Series() for number in range(len(jobs)) for batch in spec.options.batches}
    for turn in range(1, spec.turns + 1):
        for number, job in enumerate(jobs):
            label = f"{job.subject.text}, {job.backend}"
            if number not in runners:
                tell(f"{label}: opening")
                runners[number] = BACKENDS[job.backend].open(job.subject, job.backend, spec.options)
                memory.forget_peak()  # what an export took is not what a pass takes
            runner = runners[number]
            for batch in spec.options.batches:
                tell(f"{label}, batch {batch}: turn {turn} of {spec.turns}")
                _measure(runner, batch, spec.protocol, clock, gpu, series[number, batch])
            if turn < spec.turns:
                continue
            scored = None
            if score and runner.detector is not None:
                tell(f"{label}: scoring")
                scored = score(runner.detector)
            rows += [
                _row(job, runner, batch, series[number, batch], scored) for batch in spec.options.batches
            ]
            del runners[number], runner
    return rows


def _measure(
    runner: Runner, batch: int, protocol: BenchProtocol, clock: Clock, gpu: Gpu | None, series: _Series
) -> None:
    """One turn: warm-up and engine passes, then warm-up and whole passes."""
    try:
        passes = _Passes(runner, batch, clock)
        if gpu:
            series.readings.append(gpu.read())
        repeat(passes.engine, protocol.warmup, protocol.pause_s, clock)
        times = repeat(passes.engine, protocol.measured, protocol.pause_s, clock)
        if gpu:
            series.readings.append(gpu.read())
        if protocol.end_to_end:
            repeat(passes.stages, protocol.warmup, protocol.pause_s, clock)
            series.stages += repeat(passes.stages, protocol.measured, protocol.pause_s, clock)
    except MemoryError as error:
        raise DfineError(
            f"{runner.model} on {runner.device}: no memory for a batch of {batch}",
            "use a smaller --batch or --input-size",
        ) from error
    series.engine += times
    series.turn_p50.append(Stats.of(times).p50)
    peak = memory.peak_mb()
    if peak is not None:
        series.host_peaks.append(peak)


class _Passes:
    """Passes of a runner over the same fixed pictures."""

    def __init__(self, runner: Runner, batch: int, clock: Clock) -> None:
        self._runner = runner
        self._clock = clock
        picture = np.random.default_rng(0).integers(0, 256, (*PICTURE_SIZE, 3), np.uint8)
        self._pictures = [picture] * batch
        self._inputs = self._prepare()
        runner.sync()

    def _prepare(self) -> object:
        resized = np.stack([resize(picture, self._runner.input_size) for picture in self._pictures])
        return self._runner.prepare(resized, [PICTURE_SIZE] * len(self._pictures))

    def engine(self) -> float:
        """Milliseconds of one engine pass."""
        timer = self._runner.event_timer
        if timer is not None:
            return timer(lambda: self._runner.engine(self._inputs))[1]
        return self._time(lambda: self._runner.engine(self._inputs))[1]

    def stages(self) -> Stages:
        """Milliseconds of one whole pass; the device is waited for after every stage."""
        inputs, pre = self._time(self._prepare)
        outputs, engine = self._time(lambda: self._runner.engine(inputs))
        _, post = self._time(lambda: self._runner.finish(outputs))
        return Stages(pre, engine, post, pre + engine + post)

    def _time(self, call: Callable[[], object]) -> tuple[object, float]:
        return time_ms(call, self._clock, self._runner.sync)


def _row(job: Job, runner: Runner, batch: int, series: _Series, score: Score | None) -> Row:
    columns = zip(Stages._fields, zip(*series.stages, strict=True), strict=True) if series.stages else ()
    return Row(
        model=runner.model,
        size=runner.size,
        source=job.subject.text,
        sha256=_hash(job.subject.path) if job.subject.path else None,
        backend=job.backend,
        device=runner.device,
        precision=runner.precision,
        input_size=runner.input_size,
        num_classes=runner.num_classes,
        batch=batch,
        engine=Stats.of(series.engine),
        stages={name: Stats.of(times) for name, times in columns} or None,
        turn_p50=tuple(series.turn_p50),
        host_peak_mb=max(series.host_peaks, default=None),
        device_peak_mb=runner.peak_device_mb(),
        readings=tuple(series.readings),
        score=score,
    )


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
