"""Printing with and without a terminal."""

import io

import pytest

from dfine_cli.cli import console
from dfine_cli.cli.console import StatusLine, print_error, print_table, progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests set."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return now


def test_without_a_terminal_a_status_is_a_line_now_and_then(clock: list[float]) -> None:
    stream = io.StringIO()
    status = StatusLine(every_s=10, stream=stream)
    for second in range(25):
        clock[0] = 100.0 + second
        status.update(f"step {second}")
    status.print_row("epoch 1")
    status.close()
    assert stream.getvalue() == "step 10\nstep 20\nepoch 1\n"


def test_on_a_terminal_it_stays_in_one_line_and_rows_stay_above(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    status = StatusLine(stream=stream)
    status.update("a status that is longer than the terminal is wide")
    status.update("too soon")
    status.print_row("epoch 1")
    clock[0] += 1
    status.update("later")
    status.close()
    clear = "\r\x1b[2K"
    assert stream.getvalue() == f"{clear}a status that is lo{clear}epoch 1\n{clear}later{clear}"


def test_progress_counts(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("checking images", 40) as advance:
        for _ in range(20):
            clock[0] += 1
            advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["checking images: 10/40, 1/s, 30 s left", "checking images: 20/40, 1/s, 20 s left"]


def test_a_table_aligns_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("cat", 5, "7%"), ("elephant", 12345, "-")], ("class", "boxes", "share"))
    assert capsys.readouterr().out == (
        "class     boxes  share\n"
        "cat           5     7%\n"
        "elephant  12345      -\n"
    )  # fmt: skip
    print_table([], ("class",))
    assert capsys.readouterr().out == ""


def test_colour_only_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, expected in ((None, "\x1b[1;31merror:\x1b[0m no\n"), ("1", "error: no\n")):
        terminal = Terminal()
        monkeypatch.setattr(console.sys, "stderr", terminal)
        if variable:
            monkeypatch.setenv("NO_COLOR", variable)
        print_error("no")
        assert terminal.getvalue() == expected
