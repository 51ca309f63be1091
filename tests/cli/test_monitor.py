"""What a run shows on the screen."""

import io

from dfine_cli.cli.console import StatusLine
from dfine_cli.cli.monitor import HEADER, ConsoleMonitor
from dfine_cli.training.monitor import StepReport


def shown(monitor: ConsoleMonitor) -> list[str]:
    """A stream in place of the terminal; its lines so far."""
    stream = monitor.status._stream
    assert isinstance(stream, io.StringIO)
    return stream.getvalue().splitlines()


def make() -> ConsoleMonitor:
    monitor = ConsoleMonitor()
    monitor.status = StatusLine(every_s=0, stream=io.StringIO())
    return monitor


REPORT = StepReport(
    epoch=3, epochs=20, step=57, total_steps=500, read_loss=lambda: 31.257, lr=1.2e-3, images_per_s=6.83, wait_share=0.042,
    memory_mb=2301.4, seconds_left=3725,
)  # fmt: skip
ROW = {
    "epoch": 3, "step": 75, "phase": "plain", "lr": 1e-3, "loss": 30.5, "images_per_s": 6.8, "wait_share": 0.04,
    "memory_mb": 2301, "skipped": 0, "ap": 0.25, "ap50": 0.5, "ap_ema": 0.25, "ap_raw": 0.2, "weights": "ema",
}  # fmt: skip


def test_a_step_shows_loss_ap_rate_speed_waiting_memory_and_time_left() -> None:
    monitor = make()
    monitor.step(REPORT)
    line = (
        "epoch 3/20  step 57/500  loss 31.26  AP {}  lr 1.20e-03  6.8 img/s  wait 4%  2301 MB  1:02:05 left"
    )
    monitor.epoch(ROW)
    monitor.step(REPORT)
    assert [text for text in shown(monitor) if "step" in text] == [line.format("  -  "), line.format("0.250")]


def test_an_epoch_leaves_a_row_under_its_header() -> None:
    monitor = make()
    for epoch in (1, 2):
        monitor.epoch({**ROW, "epoch": epoch, "skipped": epoch - 1})
    header, first, second, skipped = shown(monitor)
    assert header == HEADER
    assert first.split()[:7] == ["1", "plain", "30.50", "0.250", "0.200", "0.500", "ema"]
    assert second.split()[7:11] == ["1.00e-03", "6.8", "4%", "2301"]
    assert "1 steps so far were not finite" in skipped
    assert len(header) == len(first) == len(second)


def test_an_epoch_that_is_not_scored_has_no_ap() -> None:
    monitor = make()
    monitor.epoch({key: value for key, value in ROW.items() if not key.startswith(("ap", "weights"))})
    assert shown(monitor)[1].split()[:7] == ["3", "plain", "30.50", "-", "-", "-", "-"]
