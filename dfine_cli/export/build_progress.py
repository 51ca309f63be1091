"""How far a build of TensorRT is, and how Ctrl-C stops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from dfine_cli.errors import Interrupted

OnStep = Callable[[str, float], None]
"""Told the phase of a build and the share of it that is done, 0 to 1."""


@contextmanager
def watch_build(trt: ModuleType, on_step: OnStep | None) -> Iterator[Any]:
    """A progress monitor for a build inside of the block.

    No exception may pass through TensorRT. So Ctrl-C and a failure of ``on_step`` only tell it to stop, and are
    raised when it has.

    Args:
        trt: The module ``tensorrt``.
        on_step: Told of the outer phases; None for nobody.

    Raises:
        Interrupted: The user pressed Ctrl-C.
    """
    monitor = _monitor(trt, on_step or (lambda phase, share: None))
    is_main = threading.current_thread() is threading.main_thread()  # others hear no signals
    before = signal.signal(signal.SIGINT, lambda *_: monitor.stop(None)) if is_main else None
    try:
        yield monitor
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)
    if monitor.failure is not None:
        raise monitor.failure
    if monitor.stopped:
        raise Interrupted("stopped while the engine was built", "no engine was written")


def _monitor(trt: ModuleType, on_step: OnStep) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self.failure: BaseException | None = None
            self._steps: dict[str, int] = {}

        def stop(self, failure: BaseException | None) -> None:
            self.stopped = True
            self.failure = failure

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            total = self._steps.get(phase_name)
            if total and not self.stopped:
                try:
                    on_step(phase_name, min(1.0, (step + 1) / total))
                except Exception as failure:  # noqa: BLE001 - raised when TensorRT has stopped
                    self.stop(failure)
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()
