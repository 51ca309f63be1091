"""Rates of a run: images per second, share of waiting, time left, peak memory."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


class Clock:
    """Times one run.

    Args:
        device: Where the model runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.waited = 0.0
        self.trained = 0.0
        self.images = 0
        self._run_steps = 0
        self._run_seconds = 0.0
        self._scoring = 0.0
        self._scorings = 0

    def start_epoch(self) -> None:
        """Forget the rates of the epoch before."""
        self.waited = self.trained = 0.0
        self.images = 0

    def waits(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time until each arrives counts as waiting for data."""
        source = iter(items)
        while True:
            before = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            self.waited += time.perf_counter() - before
            yield item

    def step(self, seconds: float, images: int) -> None:
        """An optimizer step took ``seconds`` (waiting for its data not included)."""
        self.trained += seconds
        self.images += images
        self._run_steps += 1
        self._run_seconds += seconds

    def scored(self, seconds: float) -> None:
        """An evaluation took ``seconds``."""
        self._scoring += seconds
        self._scorings += 1

    @property
    def images_per_s(self) -> float:
        """End to end in this epoch: waiting included, evaluation not."""
        return self.images / max(self.trained + self.waited, 1e-9)

    @property
    def wait_share(self) -> float:
        """Share of this epoch's time spent waiting for data."""
        return self.waited / max(self.trained + self.waited, 1e-9)

    def seconds_left(self, steps: int, scorings: int) -> float:
        """Estimate for so many more steps and evaluations, from the means so far."""
        per_step = self._run_seconds / max(self._run_steps, 1) / max(1 - self.wait_share, 0.05)
        per_scoring = self._scoring / self._scorings if self._scorings else 0.0
        return steps * per_step + scorings * per_scoring

    def memory_mb(self) -> float:
        """Peak GPU memory if the run is on one, else peak resident memory of this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
