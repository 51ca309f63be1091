"""The ``dfine`` command: its subcommands, and how failures become two lines and an exit code."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dfine_cli import __version__
from dfine_cli.cli import bench, demo, export, finetune, init, train, visualize, zoo
from dfine_cli.cli import eval as eval_
from dfine_cli.cli.console import print_error, print_out
from dfine_cli.errors import DfineError, ExitCode, cannot_write

COMMANDS: dict[str, Callable[..., None]] = {
    "init": init.command,
    "train": train.command,
    "finetune": finetune.command,
    "eval": eval_.command,
    "export": export.command,
    "visualize": visualize.command,
    "bench": bench.command,
    "demo": demo.command,
}
"""Name of each subcommand and the function behind it; its docstring is the help."""

SPINS = "10000"
"""Rounds that a thread of OpenMP waits awake, tens of microseconds: a tenth of the time of a step on two cores
against sleeping at once, and harmless where cores are shared (``tests/benchmarks/bench_step.py``)."""

GROUPS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "zoo": ("Published weights: list, download, check and convert them.", zoo.COMMANDS),
}
"""Name of each subcommand that has subcommands itself, its help, and these as in ``COMMANDS``."""

# A help flag that is not given would be converted by pydantic, which costs more than all the rest.
_CONTEXT = {"default_map": {"help": False}, "help_option_names": ["--help", "-h"]}

app = typer.Typer(
    name="dfine",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
    epilog="Exit codes: 0 done, 1 failed, 2 wrong arguments, names, paths or recipe, 3 a package or device is missing, "
    "4 a file is damaged or does not fit, 130 interrupted.",
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
for _name, (_help, _commands) in GROUPS.items():
    _group = typer.Typer(help=_help, rich_markup_mode=None, context_settings=_CONTEXT)
    for _inner, _command in _commands.items():
        _group.command(_inner)(_command)
    app.add_typer(_group, name=_name)


def _print_version(asked: bool) -> None:
    if asked:
        print_out(f"dfine {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    """D-FINE object detectors on your own data: init, train, finetune, eval, export, visualize, bench."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; ``--debug`` may stand anywhere.

    Args:
        arguments: Words after ``dfine``; those of the process by default.
    """
    # Threads that wait by spinning slow each other down several times where loaders or other programs want
    # the same cores, and threads that sleep at once wake too late for small layers: spin, but only shortly.
    # It must be set before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    _open_closed_streams()
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        signal.signal(signal.SIGTERM, _end)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
            signal.signal(signal.SIGHUP, _end)
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    alone = not words or (len(words) == 1 and words[0] in GROUPS)
    code = _run([*words, "--help"] if alone else words, debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read stdout has seen enough; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        code = _tell(error, words)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(int(code))


_GO_ON = "dfine train --resume RUN goes on from the last checkpoint of the run, if it had come to one"
_START_AGAIN = "nothing half-written was left; run the same command again"


def _end(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that nothing half-written stays; training asks its loop to save instead."""
    raise KeyboardInterrupt


def _open_closed_streams() -> None:
    """Give Python streams in place of those that the shell has closed (``>&-``)."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 open to the end
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def _run(words: list[str], debug: bool) -> int:
    try:
        code = app(words, prog_name="dfine", standalone_mode=False) or ExitCode.DONE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 users see a sentence, not a stack
        if debug:
            traceback.print_exc()
        return _tell(error, words)
    if code == ExitCode.INTERRUPTED:  # what typer makes of Ctrl-C
        return _tell(KeyboardInterrupt(), words)
    return int(code)


def _tell(error: BaseException, words: list[str]) -> int:
    """Print what a failure means for the user; returns the exit code."""
    if isinstance(error, DfineError):
        print_error(error.message, error.hint)
        return error.exit_code
    if isinstance(error, typer.TyperException):
        print_error(error.format_message(), f"see {_help_of(words)}")
        return ExitCode.USAGE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        trains = words[0] in ("train", "finetune", "demo")
        print_error("interrupted", _GO_ON if trains else _START_AGAIN)
        return ExitCode.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return ExitCode.FAILED
    if isinstance(error, OSError):
        hint = "check the path, that it may be read or written, and the space left"
        return _tell(
            cannot_write(error.filename, error, hint) if error.filename else DfineError(str(error), hint),
            words,
        )
    print_error(
        f"{type(error).__name__}: {error} (this is a bug in dfine)",
        "run it again with --debug and report the traceback",
    )
    return ExitCode.FAILED


def _help_of(words: list[str]) -> str:
    if words[0] in GROUPS and words[1:2] and words[1] in GROUPS[words[0]][1]:
        return f"dfine {words[0]} {words[1]} --help"
    return f"dfine {words[0]} --help" if words[0] in (COMMANDS | GROUPS) else "dfine --help"
