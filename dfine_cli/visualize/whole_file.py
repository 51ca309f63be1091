"""Files that appear whole or not at all."""

import os
from pathlib import Path

from dfine_cli.errors import DfineError


def write_whole(path: Path, content: bytes, option: str) -> None:
    """Write a file, and the folders on the way to it.

    Args:
        path: The file; one that is there is replaced.
        content: What is in it.
        option: What chooses the place on the command line, for the message.

    Raises:
        DfineError: It cannot be written; nothing is left behind.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise DfineError(
            f"{path}: {error.strerror or error}", f"choose another place with {option}"
        ) from error
    finally:
        if path.parent.is_dir():
            part.unlink(missing_ok=True)
