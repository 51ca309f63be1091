"""How long to measure and what to quote: the named protocols of a latency figure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from dfine_cli.errors import UsageError

Headline = Literal["mean", "p50"]
"""The statistic that is quoted; ``p50`` is the median."""


class Length(NamedTuple):
    """How many passes: at least ``runs``, and until at least ``seconds`` are over."""

    runs: int
    seconds: float = 0.0


@dataclass(frozen=True)
class BenchProtocol:
    """One way to measure. Figures of different protocols are not comparable.

    Args:
        name: What it is called on the command line.
        meaning: What it stands for, in one sentence.
        warmup: Passes that are not counted.
        measured: Passes that are.
        pause_s: Idle seconds before every pass.
        headline: The statistic that is quoted.
        end_to_end: Whether pre- and post-processing are measured too.
        changed: What was set otherwise on the command line; empty if nothing was.
    """

    name: str
    meaning: str
    warmup: Length
    measured: Length
    pause_s: float
    headline: Headline
    end_to_end: bool
    changed: str = ""

    @property
    def title(self) -> str:
        """Its name, with what was changed."""
        return f"{self.name} ({self.changed})" if self.changed else self.name

    def with_runs(self, warmup: int | None, runs: int | None) -> BenchProtocol:
        """The same with other numbers of passes, which its title then says; None keeps a number.

        Raises:
            UsageError: A number is not possible.
        """
        if warmup is None and runs is None:
            return self
        if (warmup is not None and warmup < 0) or (runs is not None and runs < 1):
            raise UsageError(
                "--warmup must be at least 0 and --runs at least 1",
                f"leave them out for what the protocol {self.name} says",
            )
        told = {"warm-ups": warmup, "runs": runs}
        return replace(
            self,
            warmup=self.warmup if warmup is None else Length(warmup),
            measured=self.measured if runs is None else Length(runs),
            changed="changed: " + ", ".join(f"{n} {what}" for what, n in told.items() if n is not None),
        )


_ROWS = (
    BenchProtocol(
        name="published",
        meaning="as the D-FINE table was measured: 1000 warm-ups, mean of 1000 passes, images already on the "
        "device, post-processing in the pass",
        warmup=Length(1000),
        measured=Length(1000),
        pause_s=0.0,
        headline="mean",
        end_to_end=False,
    ),
    BenchProtocol(
        name="sustained",
        meaning="back to back, as under constant load: the device is warm, and may have slowed down",
        warmup=Length(10, 3.0),
        measured=Length(50, 10.0),
        pause_s=0.0,
        headline="p50",
        end_to_end=True,
    ),
    BenchProtocol(
        name="burst",
        meaning="200 ms of rest before every pass, as for single images now and then: the device stays cool",
        warmup=Length(10),
        measured=Length(100),
        pause_s=0.2,
        headline="p50",
        end_to_end=True,
    ),
)

PROTOCOLS: dict[str, BenchProtocol] = {row.name: row for row in _ROWS}
"""All protocols by name."""
