"""What can go wrong, as the user hears it.

Worker code raises one of these and never prints or exits; ``cli.app`` turns it into two lines
(``error: …`` and ``hint: …``) on stderr and an exit code::

    DfineError            1   the command failed
    ├── UsageError        2   wrong arguments, or a recipe that does not validate
    ├── MissingError      3   a dependency or a device is not there
    └── CheckError        4   a check found something: data doctor, export parity
    Interrupted         130   Ctrl-C; what was done so far is saved
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    MISSING = 3
    CHECK = 4
    INTERRUPTED = 130


class DfineError(Exception):
    """A failure with a message (what and where) and a hint (what to do about it).

    Args:
        message: What went wrong and where, naming the file, key or id.
        hint: What the user can do; empty if there is nothing to suggest.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DfineError):
    """The command line or the recipe is wrong."""

    exit_code = ExitCode.USAGE


class MissingError(DfineError):
    """A package, device or tool that is needed is not there."""

    exit_code = ExitCode.MISSING


class CheckError(DfineError):
    """A check of data or of an artefact found errors."""

    exit_code = ExitCode.CHECK


class Interrupted(DfineError):
    """The user pressed Ctrl-C; the work so far is saved."""

    exit_code = ExitCode.INTERRUPTED
