"""A clock that tests turn, and a report to show."""

from __future__ import annotations

import pytest

from dfine_cli.bench.environment import Environment
from dfine_cli.bench.gpu import GpuInfo, GpuState
from dfine_cli.bench.protocols import PROTOCOLS
from dfine_cli.bench.report import Report
from dfine_cli.bench.run import Row, Score
from dfine_cli.bench.timing import Stats


class FakeClock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def now_s(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def make_row(**changes: object) -> Row:
    values: dict[str, object] = {
        "model": "dfine-n",
        "size": "n",
        "source": "out/n.engine",
        "sha256": "0123456789abcdef",
        "backend": "tensorrt",
        "device": "cuda:0",
        "precision": "fp16 81%, fp32 19%",
        "input_size": (640, 640),
        "num_classes": 80,
        "batch": 1,
        "engine": Stats.of([2.0, 2.24]),
        "stages": None,
        "turn_p50": (2.12,),
        "host_peak_mb": 100.0,
        "device_peak_mb": None,
        "readings": (GpuState(1590, 5000, 60, 65.5, 800.0, ()),),
        "score": None,
    }
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def make_report(
    *rows: Row, gpu: str | None = "Tesla T4", load: float = 0.1, protocol: str = "published"
) -> Report:
    info = GpuInfo(gpu, "550.54", "12.4", 15360.0, 70.0) if gpu else None
    environment = Environment(
        "0.1.0",
        "3.11",
        "Linux",
        {"torch": "2.13.0", "tensorrt": "10.4.0"},
        "AMD EPYC",
        2,
        2,
        load,
        info,
        ("dfine", "bench", "n"),
    )
    return Report("2026-11-24T10:00:00+00:00", PROTOCOLS[protocol], environment, rows)


SCORE = Score(0.428, 0.59, 5000, "val.json")
