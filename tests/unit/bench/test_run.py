"""Jobs, batches and turns with a runner whose times are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dfine_cli.bench import run as run_module
from dfine_cli.bench.gpu import GpuState
from dfine_cli.bench.protocols import PROTOCOLS
from dfine_cli.bench.run import BenchSpec, Job, Score, bench
from dfine_cli.bench.runner import BACKENDS, TORCH_KINDS, Backend, RunnerOptions, Subject
from dfine_cli.errors import DfineError
from dfine_cli.types import Detections
from tests.unit.bench.conftest import FakeClock

OPTIONS = RunnerOptions("cpu", 1, None, None, 2)
SUBJECT = Subject("n", None, "n")


class FakeRunner:
    """Takes 1 ms to prepare, 10 ms an image in the engine and 2 ms to finish."""

    size, device, precision, input_size, num_classes = "n", "cpu", "fp32", (32, 64), 2
    event_timer: Callable[..., Any] | None = None

    detector: object | None = None

    def __init__(self, clock: FakeClock, backend: str) -> None:
        self.clock, self.backend, self.model = clock, backend, "fake"
        self.passes: list[int] = []

    def prepare(self, images, sizes):
        assert images.shape == (len(sizes), 3, *self.input_size) and images.dtype == np.uint8
        self.clock.now += 0.001
        return len(images)

    def engine(self, inputs):
        self.passes.append(inputs)
        self.clock.now += 0.010 * inputs
        return inputs

    def finish(self, outputs):
        self.clock.now += 0.002
        blank = np.zeros((0, 4), np.float32)
        return [Detections(blank, blank[:, 0], np.zeros(0, np.int64))] * outputs

    def sync(self):
        pass

    def peak_device_mb(self):
        return None


@pytest.fixture
def opened(clock, monkeypatch):
    """Runners in the order they were opened; the backends ``a`` and ``b`` make them."""
    runners: list[FakeRunner] = []

    def open_fake(subject: Subject, backend: str, options: RunnerOptions) -> FakeRunner:
        runners.append(FakeRunner(clock, backend))
        return runners[-1]

    for name in ("a", "b"):
        monkeypatch.setitem(BACKENDS, name, Backend(TORCH_KINDS, open_fake, ""))
    return runners


def spec(protocol="sustained", runs=2, batches=(1,), turns=1):
    return BenchSpec(PROTOCOLS[protocol].with_runs(1, runs), replace(OPTIONS, batches=batches), turns)


def test_engine_and_stages_are_timed_apart(opened, clock):
    (row,) = bench([Job(SUBJECT, "a")], spec(), clock=clock)
    assert row.engine.runs == 2 and row.engine.p50 == pytest.approx(10)
    assert {name: stats.p50 for name, stats in row.stages.items()} == pytest.approx(
        {"pre": 1, "engine": 10, "post": 2, "total": 13}
    )
    assert row.images_per_s == pytest.approx(100)
    assert opened[0].passes == [1] * 6  # warm-up and two passes, alone and end to end


def test_the_published_protocol_has_the_engine_alone(opened, clock):
    (row,) = bench([Job(SUBJECT, "a")], spec("published"), clock=clock)
    assert row.stages is None and opened[0].passes == [1] * 3


def test_every_batch_is_a_row(opened, clock):
    rows = bench([Job(SUBJECT, "a")], spec(batches=(1, 4)), clock=clock)
    assert [row.batch for row in rows] == [1, 4]
    assert [row.engine.p50 for row in rows] == pytest.approx([10, 40])
    assert rows[1].images_per_s == pytest.approx(100)


def test_jobs_take_turns_and_are_opened_once(opened, clock):
    told: list[str] = []
    rows = bench([Job(SUBJECT, "a"), Job(SUBJECT, "b")], spec(turns=2), clock=clock, tell=told.append)
    assert [line for line in told if "turn" in line] == [
        "n, a, batch 1: turn 1 of 2",
        "n, b, batch 1: turn 1 of 2",
        "n, a, batch 1: turn 2 of 2",
        "n, b, batch 1: turn 2 of 2",
    ]
    assert len(opened) == 2
    assert [row.engine.runs for row in rows] == [4, 4]
    assert rows[0].turn_p50 == pytest.approx((10, 10))


def test_burst_rests_before_every_pass(opened, clock):
    bench([Job(SUBJECT, "a")], spec("burst"), clock=clock)
    assert clock.slept == [0.2] * 6


def test_the_clock_of_the_device_counts_where_there_is_one(opened, clock, monkeypatch):
    monkeypatch.setattr(FakeRunner, "event_timer", staticmethod(lambda call: (call(), 7.5)))
    (row,) = bench([Job(SUBJECT, "a")], spec(), clock=clock)
    assert row.engine.p50 == 7.5
    assert row.stages["engine"].p50 == pytest.approx(10)  # whole passes are the host's


def test_the_gpu_is_read_before_and_after(opened, clock):
    class FakeGpu:
        def read(self):
            return GpuState(1000, 5000, 50, 30.0, 1.0, ("power cap",) if opened[0].passes else ())

    (row,) = bench([Job(SUBJECT, "a")], spec(), clock=clock, gpu=FakeGpu())
    assert [reading.throttles for reading in row.readings] == [(), ("power cap",)]
    assert row.throttles == ("power cap",)


def test_what_was_timed_is_scored_once_for_all_batches(opened, clock, monkeypatch):
    monkeypatch.setattr(FakeRunner, "detector", "the same")
    seen = []

    def score(detector):
        seen.append(detector)
        return Score(0.5, 0.7, 3, "val.json")

    rows = bench([Job(SUBJECT, "a")], spec(batches=(1, 2)), clock=clock, score=score)
    assert [row.score.ap for row in rows] == [0.5, 0.5]
    assert seen == ["the same"]


def test_an_untrained_model_is_not_scored(opened, clock):
    def score(detector):
        raise AssertionError("random weights have no AP")

    (row,) = bench([Job(SUBJECT, "a")], spec(), clock=clock, score=score)
    assert row.score is None


def test_no_memory_is_two_lines(opened, clock, monkeypatch):
    def engine(self, inputs):
        raise MemoryError

    monkeypatch.setattr(FakeRunner, "engine", engine)
    with pytest.raises(DfineError, match="fake on cpu: no memory for a batch of 64") as caught:
        bench([Job(SUBJECT, "a")], spec(batches=(64,)), clock=clock)
    assert "--batch" in caught.value.hint


def test_the_peak_is_the_highest_of_all_turns(opened, clock, monkeypatch):
    peaks = iter([10.0, 30.0, 20.0])
    monkeypatch.setattr(run_module.memory, "peak_mb", lambda: next(peaks))
    (row,) = bench([Job(SUBJECT, "a")], spec(turns=3), clock=clock)
    assert row.host_peak_mb == 30.0
