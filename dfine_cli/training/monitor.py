"""What a run tells the outside while it goes on; the command line and tests listen here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
"""One epoch: plain numbers by name, the line of ``metrics.jsonl``; ``epoch`` counts from 1."""


@dataclass(frozen=True)
class StepReport:
    """Where a run is after an optimizer step."""

    epoch: int
    """Epoch in progress, counted from 1."""
    epochs: int
    step: int
    """Optimizer steps done."""
    total_steps: int
    read_loss: Callable[[], float]
    """Gives ``loss``, for which it waits until the device is done with the step."""
    lr: float
    """Highest learning rate of the step."""
    images_per_s: float
    wait_share: float
    """Share of the time spent waiting for data, 0..1."""
    memory_mb: float
    """Peak memory: of the GPU if the run is there, else resident memory of the process."""
    seconds_left: float

    @property
    def loss(self) -> float:
        """Mean of the total loss over the epoch so far."""
        return self.read_loss()


class Monitor:
    """A listener with every method silent."""

    def started(self, facts: dict[str, str]) -> None:
        """The run is about to begin; ``facts`` say with what."""

    def fetching(self, done: int, total: int | None, trouble: str = "") -> None:
        """So many of ``total`` bytes of the start weights are here; ``trouble`` says what is being waited for."""

    def step(self, report: StepReport) -> None:
        """An optimizer step is done."""

    def evaluating(self, done: int, total: int) -> None:
        """So many validation images are done."""

    def epoch(self, row: Row) -> None:
        """An epoch is done and scored."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""
