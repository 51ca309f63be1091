"""A run on the screen: a live line for the step, a fixed row for each epoch, the summary at the end."""

import time

from dfine_cli.cli.console import StatusLine, say
from dfine_cli.training.monitor import Monitor, Row, StepReport

HEADER = "epoch  phase     loss   AP ema   AP raw   AP50  weights        lr   img/s  wait    mem MB    time"


class ConsoleMonitor(Monitor):
    """Tells a run on stderr; plain lines where there is no terminal."""

    def __init__(self) -> None:
        self.status = StatusLine()
        self.ap: float | None = None
        self._started = time.monotonic()
        self._rows = 0

    def started(self, facts: dict[str, str]) -> None:
        """Say what the run consists of."""
        width = max(map(len, facts))
        for name, text in facts.items():
            say(f"{name.ljust(width)}  {text}")
        self._started = time.monotonic()

    def fetching(self, done: int, total: int | None, trouble: str = "") -> None:
        """Show how far the download of the start weights is."""
        of = f"/{total / 1e6:.1f}" if total else ""
        self.status.update(f"downloading weights: {done / 1e6:.1f}{of} MB{trouble and f', {trouble}'}")

    def step(self, report: StepReport) -> None:
        """Show where the run is; most steps are over before anybody could read it."""
        if not self.status.is_due():
            return
        ap = "  -  " if self.ap is None else f"{self.ap:.3f}"
        self.status.update(
            f"epoch {report.epoch}/{report.epochs}  step {report.step}/{report.total_steps}  "
            f"loss {report.loss:.2f}  AP {ap}  lr {report.lr:.2e}  {report.images_per_s:.1f} img/s  "
            f"wait {report.wait_share:.0%}  {report.memory_mb:.0f} MB  {_clock(report.seconds_left)} left"
        )

    def evaluating(self, done: int, total: int) -> None:
        """Show how far the evaluation is."""
        self.status.update(f"evaluating {done}/{total} images")

    def epoch(self, row: Row) -> None:
        """Leave a row."""
        self.ap = row.get("ap", self.ap)
        if self._rows % 20 == 0:
            self.status.print_row(HEADER)
        self._rows += 1
        self.status.print_row(
            f"{row['epoch']:5d}  {row['phase']:6} {row['loss']:7.2f}  {_ap(row.get('ap_ema'))}  "
            f"{_ap(row.get('ap_raw'))}  {_ap(row.get('ap50'), 5)}  {row.get('weights', '-'):7}  {row['lr']:.2e}  "
            f"{row['images_per_s']:6.1f}  {row['wait_share']:4.0%}  {row['memory_mb']:8.0f}  "
            f"{_clock(time.monotonic() - self._started):>6}"
        )
        if row["skipped"]:
            self.status.print_row(f"       {row['skipped']} steps so far were not finite and were skipped")

    def note(self, text: str) -> None:
        """Leave a line."""
        self.status.print_row(text)


def _ap(value: float | None, width: int = 7) -> str:
    return ("-" if value is None else f"{value:.3f}").rjust(width)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
