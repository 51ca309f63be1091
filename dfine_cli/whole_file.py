"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dfine_cli.errors import DfineError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what is to become ``path``: see ``whole_files``."""
    with whole_files(path) as (part,):
        yield part


@contextmanager
def whole_files(*paths: Path) -> Iterator[list[Path]]:
    """Where to write what is to become ``paths``: names beside them, which take their places at the end.

    The folders on the way are made. None is replaced before all are written. If anything goes wrong inside, an
    interrupt included, the files that were there stay as they were, and nothing else is left.

    Args:
        paths: The files, in the order in which they are replaced.

    Raises:
        OSError: A folder cannot be made, or a file not be replaced.
    """
    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield parts
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    finally:
        for part in parts:
            with suppress(OSError):  # a folder that could not be made has none
                part.unlink(missing_ok=True)


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
