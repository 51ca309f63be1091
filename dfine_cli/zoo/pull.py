"""From a row of the zoo to a checked file on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from dfine_cli.errors import CheckError, DfineError
from dfine_cli.model.weights import WeightsEntry
from dfine_cli.zoo import cache
from dfine_cli.zoo.download import Patience, Progress, copy, download, silent

MIRROR_VARIABLE = "DFINE_MIRROR"

Check = Callable[[Path], object]
"""Raises a ``DfineError`` unless the file is what it should be."""


def pull(
    entry: WeightsEntry,
    *,
    check: Check,
    progress: Progress = silent,
    patience: Patience | None = None,
    renew: bool = False,
) -> Path:
    """The file of an entry: what is there if it is as it was at first use, else downloaded.

    The hash of a file is recorded at its first use, once it has passed ``check``, and must be the same ever
    after. Of processes that want the same file, one downloads and the others wait.

    Args:
        entry: What to get.
        check: Whether the content is what it should be.
        progress: Is told how a download goes.
        patience: How long to wait and how often to try again.
        renew: Download it again, and put it in the place of the file and its hash once it is whole and checked.

    Raises:
        CheckError: It is not what was used first, or not what it should be.
        DfineError: It cannot be downloaded.
    """
    path = cache.place_of(entry)
    _make_folder(path.parent)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.is_file() and not renew:
            verify(entry, check=check)
        else:
            _fetch(entry, path, check, progress, patience, renew)
    return path


def verify(entry: WeightsEntry, *, check: Check) -> str:
    """Check the file of an entry: against its recorded hash, or if there is none by its content, then record it.

    Returns:
        Its hash.

    Raises:
        CheckError: It is not what was used first, or not what it should be.
        DfineError: It cannot be read.
    """
    path = cache.place_of(entry)
    recorded, found = cache.recorded_hash(path), cache.hash_of(path)
    if recorded is None:
        check(path)
        cache.record_hash(path, found)
    elif recorded != found:
        raise _changed(entry, recorded, found)
    return found


def address_of(entry: WeightsEntry) -> str:
    """Where the file of an entry is downloaded from: its own address, or that in ``DFINE_MIRROR``."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    if not mirror:
        return entry.url
    if mirror.startswith(("http://", "https://")):
        return f"{mirror.rstrip('/')}/{entry.file_name}"
    return str(Path(mirror).expanduser() / entry.file_name)


def _fetch(
    entry: WeightsEntry,
    path: Path,
    check: Check,
    progress: Progress,
    patience: Patience | None,
    renew: bool,
) -> None:
    part = path.with_name(f"{path.name}.part")
    address = address_of(entry)
    by_hand = f"put the file from {entry.url} at {path}"
    if address.startswith(("http://", "https://")):
        download(address, part, progress=progress, patience=patience, offline_hint=by_hand)
    elif not Path(address).is_file():
        raise DfineError(
            f"{address}: no such file, in the folder that {MIRROR_VARIABLE} names",
            f"put it there, or {by_hand}",
        )
    else:
        copy(Path(address), part, progress)
    try:
        check(part)
        recorded, found = None if renew else cache.recorded_hash(path), cache.hash_of(part)
        if recorded not in (None, found):
            raise _changed(entry, recorded or "", found)
    except DfineError as error:
        part.unlink()
        raise type(error)(
            error.message.replace(str(part), f"{entry.name} from {address}"),
            error.hint or f"it was deleted; {by_hand}",
        ) from error
    part.replace(path)
    cache.record_hash(path, found)


def _changed(entry: WeightsEntry, recorded: str, found: str) -> CheckError:
    return CheckError(
        f"{cache.place_of(entry)}: not the file that was used before: SHA-256 {found[:12]}…, it was {recorded[:12]}…",
        f"`dfine zoo pull --renew {entry.name}` takes the present one of the publisher in its place",
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DfineError(
            f"{error.filename or folder}: {error.strerror}",
            f"set {cache.HOME_VARIABLE} to a folder that can be written",
        ) from error
