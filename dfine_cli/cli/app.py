"""The ``dfine`` command: its subcommands, and how failures become two lines and an exit code."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from dfine_cli import __version__
from dfine_cli.cli import bench, demo, finetune, init, train
from dfine_cli.cli import eval as eval_
from dfine_cli.cli.console import print_error, print_out
from dfine_cli.errors import DfineError, ExitCode

COMMANDS: dict[str, Callable[..., None]] = {
    "init": init.command,
    "train": train.command,
    "finetune": finetune.command,
    "eval": eval_.command,
    "bench": bench.command,
    "demo": demo.command,
}
"""Name of each subcommand and the function behind it; its docstring is the help."""

SPINS = "10000"
"""Rounds that a thread of OpenMP waits awake, tens of microseconds: a tenth of the time of a step on two cores
against sleeping at once, and harmless where cores are shared (``tests/benchmarks/bench_step.py``)."""

app = typer.Typer(
    name="dfine",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    # A help flag that is not given would be converted by pydantic, which costs more than all the rest.
    context_settings={"default_map": {"help": False}, "help_option_names": ["--help", "-h"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or recipe, 3 a package or device is missing, "
    "4 a check failed, 130 interrupted.",
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


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
    """D-FINE object detectors on your own data: init, train, finetune, eval, bench."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; ``--debug`` may stand anywhere.

    Args:
        arguments: Words after ``dfine``; those of the process by default.
    """
    # Threads that wait by spinning slow each other down several times where loaders or other programs want
    # the same cores, and threads that sleep at once wake too late for small layers: spin, but only shortly.
    # It must be set before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    code = _run([word for word in words if word != "--debug"] or ["--help"], debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read stdout has seen enough; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(int(code))


def _run(words: list[str], debug: bool) -> int:
    try:
        code = app(words, prog_name="dfine", standalone_mode=False) or ExitCode.DONE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 users see a sentence, not a stack
        if debug:
            traceback.print_exc()
        return _tell(error, words)
    if code == ExitCode.INTERRUPTED:  # what typer makes of Ctrl-C
        print_error("interrupted")
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
        print_error("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return ExitCode.FAILED
    if isinstance(error, OSError):
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return ExitCode.FAILED
    print_error(
        f"{type(error).__name__}: {error} (this is a bug in dfine)",
        "run it again with --debug and report the traceback",
    )
    return ExitCode.FAILED


def _help_of(words: list[str]) -> str:
    return f"dfine {words[0]} --help" if words[0] in COMMANDS else "dfine --help"
