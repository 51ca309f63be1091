"""Protocols, repetition and statistics, by a clock that the tests turn."""

from __future__ import annotations

import pytest

from dfine_cli.bench.protocols import PROTOCOLS, Length
from dfine_cli.bench.timing import Stats, repeat, time_ms
from dfine_cli.errors import UsageError
from tests.unit.bench.conftest import FakeClock


def test_statistics_of_a_known_series() -> None:
    stats = Stats.of([*range(1, 100), 1000])  # one straggler moves the mean and not the median
    assert (stats.runs, stats.min, stats.max) == (100, 1, 1000)
    assert (stats.p50, stats.p90, stats.mean) == (50.5, pytest.approx(90.1), 59.5)
    assert stats.p99 == pytest.approx(108.01)


def test_one_time_is_all_its_statistics() -> None:
    assert Stats.of([2.5]) == (1, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 0.0)


def test_the_device_is_waited_for_before_the_second_reading() -> None:
    clock = FakeClock()

    def call() -> str:
        clock.now += 0.002
        return "boxes"

    def sync() -> None:
        clock.now += 0.005

    result, milliseconds = time_ms(call, clock, sync)
    assert result == "boxes"
    assert milliseconds == pytest.approx(7)


@pytest.mark.parametrize(
    ("length", "passes"),
    [
        (Length(3), 3),
        (Length(0), 0),
        (Length(2, 1.0), 4),  # passes of 0.25 s: the time decides
        (Length(6, 1.0), 6),  # the number decides
    ],
)
def test_a_series_has_its_number_and_its_time(length: Length, passes: int) -> None:
    clock = FakeClock()

    def once() -> float:
        clock.now += 0.25
        return clock.now

    assert len(repeat(once, length, 0.0, clock)) == passes
    assert clock.slept == []


def test_a_pause_comes_before_every_pass() -> None:
    clock = FakeClock()
    repeat(lambda: None, Length(3), 0.2, clock)
    assert clock.slept == [0.2] * 3


def test_the_published_protocol_is_that_of_the_table() -> None:
    published = PROTOCOLS["published"]
    assert (published.warmup, published.measured) == ((1000, 0.0), (1000, 0.0))
    assert (published.headline, published.pause_s, published.end_to_end) == ("mean", 0.0, False)
    assert published.title == "published"


def test_a_changed_protocol_says_so() -> None:
    changed = PROTOCOLS["sustained"].with_runs(warmup=1, runs=3)
    assert (changed.warmup, changed.measured) == ((1, 0.0), (3, 0.0))
    assert changed.title == "sustained (changed: 1 warm-ups, 3 runs)"
    assert PROTOCOLS["burst"].with_runs(None, 5).title == "burst (changed: 5 runs)"
    assert PROTOCOLS["burst"].with_runs(None, None) is PROTOCOLS["burst"]


@pytest.mark.parametrize(("warmup", "runs"), [(-1, None), (None, 0)])
def test_impossible_numbers_are_refused(warmup: int | None, runs: int | None) -> None:
    with pytest.raises(UsageError, match="at least"):
        PROTOCOLS["burst"].with_runs(warmup, runs)
