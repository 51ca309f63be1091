"""Ending a run from outside without losing it: a signal is a request, which the loop reads when its state is whole."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

REQUESTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a scheduler or supervisor, and a terminal that is closed."""


class Stop(Exception):
    """Somebody asked the run to end, and its state is whole."""


@dataclass
class StopRequest:
    """Whether somebody asked the run to end."""

    asked: bool = False

    def check(self) -> None:
        """Leave the loop if somebody asked for it; to be called where the state of the run is whole.

        Raises:
            Stop: They did.
        """
        if self.asked:
            raise Stop


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn the signals of ``REQUESTS`` into a request that the loop reads.

    A second Ctrl-C raises KeyboardInterrupt at once. The others may come twice: ``timeout`` and schedulers send
    them to the process and to its group. SIGHUP stays ignored where it is, under ``nohup``; SIGINT does not, as
    shells ignore it for all that scripts start in the background. Outside the main thread signals stay as they are.
    """
    request = StopRequest()

    def ask(number: int, _frame: FrameType | None) -> None:
        if request.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.asked = True

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    try:
        before = {n: signal.signal(n, ask) for n in REQUESTS if not (nohup and n == signal.SIGHUP)}
    except ValueError:  # only the main thread may set handlers
        before = {}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
