"""Where the rows of a run go beside the screen: files, and TensorBoard if wanted."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dfine_cli.optional import need
from dfine_cli.training.monitor import Monitor, Row, StepReport

Sink = Callable[[Row], None]


class Recorder(Monitor):
    """Passes everything on to another monitor, and each row to the sinks first."""

    def __init__(self, listener: Monitor, sinks: Sequence[Sink]) -> None:
        self.listener = listener
        self.sinks = sinks

    def step(self, report: StepReport) -> None:
        """Pass on."""
        self.listener.step(report)

    def epoch(self, row: Row) -> None:
        """Record the row, then pass it on."""
        for sink in self.sinks:
            sink(row)
        self.listener.epoch(row)

    def note(self, text: str) -> None:
        """Pass on."""
        self.listener.note(text)


def need_tensorboard() -> None:
    """Refuse a run that wants TensorBoard where it is not installed.

    Raises:
        MissingError: It is not there.
    """
    need("tensorboard", extra="loggers")  # the module of torch itself is always there


def open_tensorboard(folder: Path) -> Sink:
    """A sink that writes every number of a row as a scalar over epochs.

    Raises:
        MissingError: TensorBoard is not installed.
    """
    need_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def write(row: Row) -> None:
        scalars = {k: v for k, v in row.items() if isinstance(v, int | float)} | {
            f"loss/{k}": v for k, v in row.get("terms", {}).items()
        }
        for name, value in scalars.items():
            writer.add_scalar(name, value, int(row["epoch"]))
        writer.flush()

    return write
