"""Weights by name or path on the command line, with a status while they are downloaded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dfine_cli.cli.console import StatusLine

if TYPE_CHECKING:
    from dfine_cli.zoo.download import Progress

_MB = 1e6


@contextmanager
def shown(name: str) -> Iterator["Progress"]:
    """A ``Progress`` that keeps a status of the download of ``name``, and says why it is tried again."""
    status, started, first = StatusLine(), time.monotonic(), -1

    def show(done: int, total: int | None, trouble: str = "") -> None:
        nonlocal first
        if trouble:
            status.print_row(f"{name}: {trouble}; trying again")
            return
        first = done if first < 0 else first
        rate = (done - first) / _MB / max(time.monotonic() - started, 1e-9)
        of = f" of {total / _MB:.1f}" if total else ""
        status.update(f"downloading {name}: {done / _MB:.1f}{of} MB, {rate:.1f} MB/s")

    try:
        yield show
    finally:
        status.close()


def local_weights(name_or_path: str) -> Path:
    """Where the weights behind an option are: a path as it is, a name of the zoo once it is downloaded.

    Raises:
        DfineError: There is no such name, or it cannot be downloaded.
    """
    from dfine_cli.model.weights import entry_of

    entry = entry_of(name_or_path)
    if entry is None:
        return Path(name_or_path)
    from dfine_cli.zoo.open import pull_entry  # which loads torch

    with shown(entry.name) as progress:
        return pull_entry(entry, progress=progress)
