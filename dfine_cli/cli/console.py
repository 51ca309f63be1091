"""The only place that prints: results on stdout, talk on stderr, plain text where there is no terminal."""

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

_QUIET_S = 10.0
"""Seconds between two lines of a status without a terminal."""
_LIVE_S = 0.1
"""Seconds between two drawings of a status on a terminal."""


def print_out(text: str = "") -> None:
    """A result: goes to stdout."""
    print(text)


def print_json(values: dict[str, Any]) -> None:
    """A result as one JSON object on stdout, with ``schema_version`` first."""
    from dfine_cli.strict_json import dumps

    print(dumps({"schema_version": 1, **values}, indent=2))


def say(text: str) -> None:
    """Talk: goes to stderr."""
    _write(sys.stderr, f"{text}\n")


def _write(stream: TextIO, text: str) -> None:
    """Talk to ``stream``, if there is somebody: a terminal that was closed must not end a run or keep it from saving."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if error.errno != errno.EIO:  # what Linux answers for such a terminal
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_error(message: str, hint: str = "") -> None:
    """What went wrong and what to do about it, on stderr."""
    say(f"{_style('error:', '1;31', sys.stderr)} {message}")
    if hint:
        say(f"{_style('hint:', '1;36', sys.stderr)} {hint}")


def print_next(command: str) -> None:
    """The last line of a command: what to try next."""
    say(f"{_style('next:', '1;32', sys.stderr)} {command}")


def print_table(rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> None:
    """Aligned columns on stdout, numbers to the right; the header is bold on a terminal."""
    texts = [[str(cell) for cell in row] for row in rows]
    if not texts:
        return
    columns = list(zip(*([list(header)] if header else []), *texts, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_is_number(row[i]) for row in texts) for i in range(len(columns))]
    if header:
        print(_style(_line(header, widths, right), "1", sys.stdout))
    for row in texts:
        print(_line(row, widths, right))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
    return "  ".join(padded).rstrip()


def _is_number(text: str) -> bool:
    return text.strip("%+-").replace(".", "", 1).replace(",", "").isdigit() or text in ("", "-")


def _style(text: str, code: str, stream: TextIO) -> str:
    plain = "NO_COLOR" in os.environ or not is_live(stream)
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def is_live(stream: TextIO) -> bool:
    """Whether a person looks at the stream: a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class StatusLine:
    """One line on stderr that changes in place; without a terminal, a plain line now and then.

    Args:
        every_s: Seconds between two lines where there is no terminal.
        stream: Where it goes; stderr by default.
    """

    def __init__(self, every_s: float = _QUIET_S, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = is_live(self._stream)
        self._pause_s = _LIVE_S if self._live else every_s
        self._last_s = 0.0 if self._live else time.monotonic()
        self._drawn = False

    def update(self, text: str) -> None:
        """Show ``text`` as the status, unless another was shown a moment ago."""
        if not self.is_due():
            return
        self._last_s = time.monotonic()
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[2K{text[:width]}")
            self._drawn = True
        else:
            self._write(f"{text}\n")

    def is_due(self) -> bool:
        """Whether ``update`` would show anything now."""
        return time.monotonic() - self._last_s >= self._pause_s

    def print_row(self, text: str) -> None:
        """Leave ``text`` as a line of its own, above the status."""
        self.close()
        self._write(f"{text}\n")

    def close(self) -> None:
        """Remove the status from the terminal."""
        if self._drawn:
            self._write("\r\x1b[2K")
            self._drawn = False

    def _write(self, text: str) -> None:
        _write(self._stream, text)


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """A status that counts; call what it gives once for each of ``total`` things done."""
    status, done, started = StatusLine(), 0, time.monotonic()

    def advance() -> None:
        nonlocal done
        done += 1
        rate = done / max(time.monotonic() - started, 1e-9)
        status.update(f"{label}: {done}/{total}, {rate:.0f}/s, {max(total - done, 0) / rate:.0f} s left")

    try:
        yield advance
    finally:
        status.close()
