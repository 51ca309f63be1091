"""Passes repeated and timed, and what their times say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from dfine_cli.bench.protocols import Length

T = TypeVar("T")


class Clock(Protocol):
    """Where time is read and spent; tests bring their own."""

    def now_s(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""


class SystemClock:
    """The clock of the machine with the finest steps."""

    def now_s(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


class Stats(NamedTuple):
    """What a series of times says, in milliseconds."""

    runs: int
    mean: float
    p50: float
    """The median."""
    p90: float
    p99: float
    min: float
    max: float
    std: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Stats:
        """Statistics of at least one time; percentiles between two times are interpolated."""
        times = np.asarray(times_ms, np.float64)
        p50, p90, p99 = np.percentile(times, (50, 90, 99)).tolist()
        return cls(
            runs=len(times),
            mean=float(times.mean()),
            p50=p50,
            p90=p90,
            p99=p99,
            min=float(times.min()),
            max=float(times.max()),
            std=float(times.std()),
        )


def time_ms(call: Callable[[], T], clock: Clock, sync: Callable[[], None]) -> tuple[T, float]:
    """The result of ``call`` and the milliseconds until its device was done.

    Args:
        call: What is timed.
        clock: Read before and after.
        sync: Waits for the device; called before the second reading.
    """
    started = clock.now_s()
    result = call()
    sync()
    return result, (clock.now_s() - started) * 1000


def repeat(once: Callable[[], T], length: Length, pause_s: float, clock: Clock) -> list[T]:
    """What ``once`` gives, again and again for ``length``, with a pause before each."""
    results: list[T] = []
    started = clock.now_s()
    while len(results) < length.runs or clock.now_s() - started < length.seconds:
        if pause_s:
            clock.sleep(pause_s)
        results.append(once())
    return results
