"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dfine_cli.errors import DfineError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what is to become ``path``: a name beside it, which takes its place at the end.

    The folders on the way are made. If anything goes wrong inside, an interrupt included, the file that was there
    stays as it was, and nothing else is left.

    Args:
        path: The file; one that is there is replaced.

    Raises:
        OSError: A folder cannot be made, or the file not be replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def whole_files(*paths: Path) -> Iterator[list[Path]]:
    """As ``whole_file``, for files that belong together: none is replaced before all are written.

    Args:
        paths: The files; the last one is replaced first.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(whole_file(path)) for path in paths]


def write_whole(path: Path, content: bytes, option: str) -> None:
    """Write a file, and the folders on the way to it.

    Args:
        path: The file; one that is there is replaced.
        content: What is in it.
        option: What chooses the place on the command line, for the message.

    Raises:
        DfineError: It cannot be written; nothing is left behind.
    """
    try:
        with whole_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise DfineError(
            f"{path}: {error.strerror or error}", f"choose another place with {option}"
        ) from error
