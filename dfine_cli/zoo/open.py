"""Weights by what the user calls them: a name of the zoo, a file, or a folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dfine_cli.errors import CheckError, UsageError
from dfine_cli.model.weights import WEIGHTS, WeightsEntry, entry_of
from dfine_cli.zoo import cache
from dfine_cli.zoo.download import Patience, Progress, silent
from dfine_cli.zoo.pull import pull, verify
from dfine_cli.zoo.read import PublishedWeights, read_weights
from dfine_cli.zoo.structure import require_complete


def open_weights(name_or_path: str | Path, *, progress: Progress = silent) -> PublishedWeights:
    """The weights behind ``--weights`` or ``--from``, complete for the model that they are meant for.

    Args:
        name_or_path: A name of the zoo such as ``s/obj2coco``, which is downloaded unless it is there; or
            anything that ``read_weights`` reads. A name of the zoo comes before a path that looks the same:
            write ``./s/obj2coco`` for the path. A file that is called as a published one is taken for it.
        progress: Is told how a download goes.

    Raises:
        UsageError: No such name or file.
        CheckError: Something is missing or of another shape, or the file is damaged, no weights of a D-FINE, or
            not what was pulled before.
        DfineError: It cannot be downloaded.
    """
    entry = entry_of(name_or_path)
    if entry is not None:
        return read_entry(pull_entry(entry, progress=progress), entry)
    weights = read_named(Path(name_or_path))
    require_complete(weights.fit(), str(name_or_path))
    return weights


def pull_entry(
    entry: WeightsEntry,
    *,
    progress: Progress = silent,
    patience: Patience | None = None,
    renew: bool = False,
) -> Path:
    """The checked file of an entry, downloaded unless it is there; see ``pull``."""
    return pull(
        entry, check=lambda path: read_entry(path, entry), progress=progress, patience=patience, renew=renew
    )


def verify_entry(entry: WeightsEntry) -> tuple[PublishedWeights, str]:
    """The weights of an entry that is in the cache, once their hash is checked, and that hash.

    Raises:
        UsageError: They have not been pulled.
        CheckError: The file cannot be read, is not what was used first, or not what it should be.
    """
    path = cache.place_of(entry)
    if not path.is_file():
        raise UsageError(f"{entry.name} is not at {path}", f"dfine zoo pull {entry.name}")
    digest = verify(entry, check=lambda path: read_entry(path, entry))
    return read_entry(path, entry), digest


def read_entry(path: Path, entry: WeightsEntry) -> PublishedWeights:
    """The weights in a file that is to hold those of ``entry``.

    Raises:
        CheckError: They are of another size or number of classes, or incomplete, or the file cannot be read.
    """
    weights = read_weights(path)
    if _kind(weights) != _kind(entry):
        raise CheckError(
            f"{path}: holds {_describe(*_kind(weights))}, and {entry.name} is {_describe(*_kind(entry))}",
            f"use the file from {entry.url}",
        )
    require_complete(weights.fit(), str(path))
    return _known(weights, entry)


def read_named(path: Path) -> PublishedWeights:
    """As ``read_weights``; a file that is called as a published one, and is of its kind, is taken for it."""
    weights = read_weights(path)
    for entry in WEIGHTS.values():
        if path.name == entry.file_name and _kind(weights) == _kind(entry):
            return _known(weights, entry)
    return weights


def _known(weights: PublishedWeights, entry: WeightsEntry) -> PublishedWeights:
    """The weights with what their file does not say; one that we converted says it itself."""
    if weights.activation is not None:
        return weights
    return dataclasses.replace(weights, label_set=entry.classes, activation=entry.activation)


def _kind(known: PublishedWeights | WeightsEntry) -> tuple[bool, str, int]:
    return (known.num_classes == 0, known.size, known.num_classes)


def _describe(is_backbone: bool, size: str, num_classes: int) -> str:
    return f"backbone {size.upper()}" if is_backbone else f"D-FINE-{size.upper()} with {num_classes} classes"
