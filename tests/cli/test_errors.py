"""Failures: two lines on stderr and the right exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfine_cli.cli import app as app_module
from dfine_cli.errors import CheckError, DfineError, Interrupted, MissingError, UsageError

if TYPE_CHECKING:
    from tests.cli.conftest import Run


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make every command fail with an exception."""

    def install(error: BaseException) -> None:
        def app(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(app_module, "app", app)

    return install


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DfineError("the run failed", "try again"), 1),
        (UsageError("no such key", "try again"), 2),
        (MissingError("no GPU", "try again"), 3),
        (CheckError("3 boxes are outside", "try again"), 4),
        (Interrupted("stopped after step 3", "try again"), 130),
    ],
)
def test_every_kind_has_its_code(
    run: Run, failing: Callable[[BaseException], None], error: DfineError, code: int
) -> None:
    failing(error)
    assert run("init") == (code, "", f"error: {error.message}\nhint: try again\n")


def test_a_bug_is_one_line_that_says_so(run: Run, failing: Callable[[BaseException], None]) -> None:
    failing(KeyError("boxes"))
    code, out, err = run("init")
    assert (code, out) == (1, "")
    assert err.splitlines()[0] == "error: KeyError: 'boxes' (this is a bug in dfine)"
    assert "Traceback" not in err and "--debug" in err


@pytest.mark.parametrize("words", [("--debug", "init"), ("init", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(
    run: Run, failing: Callable[[BaseException], None], words: tuple[str, ...]
) -> None:
    failing(KeyError("boxes"))
    code, _, err = run(*words)
    assert code == 1 and "Traceback (most recent call last)" in err and "error: KeyError" in err


def test_ctrl_c(run: Run, failing: Callable[[BaseException], None]) -> None:
    failing(KeyboardInterrupt())
    assert run("init") == (
        130,
        "",
        "error: interrupted\nhint: nothing half-written was left; run the same command again\n",
    )


def test_a_file_that_cannot_be_opened_is_no_bug(run: Run, failing: Callable[[BaseException], None]) -> None:
    failing(PermissionError(13, "Permission denied", "/private/run.yaml"))
    code, out, err = run("init")
    assert (code, out) == (1, "")
    assert (
        err.startswith("error: /private/run.yaml: Permission denied\nhint: ") and len(err.splitlines()) == 2
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("inti",), "Did you mean 'init'?"),
        (("init", ".", "--siz", "n"), "--size"),
        (("init",), "Missing argument 'DATA'"),
        (("init", ".", "--epochs", "many"), "--epochs"),
        (("init", ".", "--input-size", "a"), "--input-size a: must be one number or height,width"),
        (("init", ".", "--size", "q"), "there is no recipe `scratch/q`"),
        (
            ("train", "scratch/n", "--input-size", 70),
            "--input-size: `data.input_size` = [70, 70]: 70 is not a",
        ),
        (("train", "scratch/n", "--epochs", 0), "--epochs: `schedule.epochs` = 0: Input should be"),
        (("train", "scratch/n", "--name", "../esc"), "--name: `name` = ../esc: must be a plain name"),
        (("train", "scratch/n", "--workers", -1), "--workers: `data.workers` = -1"),
        (
            ("train", "scratch/n", "--epochs", 0, "--set", "schedule.epochs=-1"),
            "--set: `schedule.epochs` = -1",
        ),
        (("init", ".", "--remap", "some"), "--remap: `categories.remap` = some"),
        (("finetune", ".", "--freeze", "all"), "--freeze: `start.freeze` = all"),
        (("finetune", ".", "--early-stop", -1), "--early-stop: `schedule.early_stop` = -1"),
        (("demo", "--size", 70), "--size: `data.input_size` = [70, 70]: 70 is not a multiple of 32"),
        (("init", ".", "--set", "optim.lrr=1"), "unknown key `optim.lrr` - did you mean `lr`?"),
        (("init", ".", "--set", "optim.lr=-1"), "`optim.lr` = -1: Input should be greater than 0"),
    ],
)
def test_wrong_usage_names_the_place_and_the_near_miss(
    run: Run, words: tuple[str, ...], message: str
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and message in err and "\nhint: " in err
    assert list(Path.cwd().iterdir()) == []


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "dfine_cli", "--help"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode in (0, 1)
