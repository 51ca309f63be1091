"""What can go wrong, as the user hears it.

Worker code raises one of these and never prints or exits; ``cli.app`` turns it into two lines
(``error: …`` and ``hint: …``) on stderr and an exit code::

    DfineError            1   the command failed: the network, the disk, memory, a run that diverges
    ├── UsageError        2   what was typed is wrong: an argument, a name, a path where nothing is, a recipe
    ├── MissingError      3   a package or a device is not there
    ├── CheckError        4   what is in a file is wrong: damaged or cut off, of another kind, does not fit; errors
    │                         in data, a parity that does not hold
    └── Interrupted     130   a signal ended it (Ctrl-C, SIGTERM, SIGHUP); what was done so far is saved

The code tells whose move it is: after 2 the command line, after 3 the machine, after 4 the file, after 1 perhaps just
another try.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def naming(place: object) -> Iterator[None]:
    """Put a file in front of the message of any failure inside, for checks that are not told where things are from."""
    try:
        yield
    except DfineError as error:
        raise type(error)(f"{place}: {error.message}", error.hint) from error


class UsageError(DfineError):
    """The command line or the recipe is wrong, or a path leads to nothing."""

    exit_code = ExitCode.USAGE


def cannot_write(path: object, error: OSError, hint: str) -> DfineError:
    """The failure behind an error of the system while ``path`` was written.

    Args:
        path: What was to be written.
        error: What the system answered.
        hint: What to do, unless a file stands where a folder is needed.
    """
    if isinstance(error, FileExistsError | NotADirectoryError):
        return UsageError(f"{path}: one of its folders is a file", "give a name in a folder")
    return DfineError(f"{path}: {error.strerror or error}", hint)


class MissingError(DfineError):
    """A package, device or tool that is needed is not there."""

    exit_code = ExitCode.MISSING


class CheckError(DfineError):
    """A file is there, but its content is not what it should be."""

    exit_code = ExitCode.CHECK


class Interrupted(DfineError):
    """A signal ended the work; what was done so far is saved."""

    exit_code = ExitCode.INTERRUPTED
