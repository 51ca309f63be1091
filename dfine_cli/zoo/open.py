"""Weights by what the user calls them: a name of the zoo, a file, or a folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dfine_cli.errors import CheckError
from dfine_cli.model.weights import WEIGHTS, WeightsEntry, find_entry, looks_like_name
from dfine_cli.zoo.download import Progress, silent
from dfine_cli.zoo.pull import pull
from dfine_cli.zoo.read import PublishedWeights, read_weights
from dfine_cli.zoo.structure import require_complete


def open_weights(name_or_path: str | Path, *, progress: Progress = silent) -> PublishedWeights:
    """The weights behind ``--weights`` or ``--from``, complete for the model that they are meant for.

    Args:
        name_or_path: A name of the zoo such as ``s/obj2coco``, which is downloaded unless it is there; or
            anything that ``read_weights`` reads. A name of the zoo comes before a path that looks the same:
            write ``./s/obj2coco`` for the path.
        progress: Is told how a download goes.

    Raises:
        UsageError: No such name or file, or no weights of a D-FINE.
        CheckError: Something is missing or of another shape, or the file is not what was pulled before.
        DfineError: It cannot be downloaded or read.
    """
    text = str(name_or_path)
    known = text.lower() in WEIGHTS
    if known or (looks_like_name(text) and not Path(text).exists()):
        entry = find_entry(text)
        return read_entry(pull(entry, check=lambda path: read_entry(path, entry), progress=progress), entry)
    weights = read_weights(Path(name_or_path))
    require_complete(weights.fit(), text)
    return weights


def read_entry(path: Path, entry: WeightsEntry) -> PublishedWeights:
    """The weights in a file that is to hold those of ``entry``.

    Raises:
        CheckError: They are of another size or number of classes, or incomplete.
        DfineError: The file cannot be read.
    """
    weights = read_weights(path)
    expected = (entry.kind == "backbone", entry.size, entry.num_classes)
    found = (weights.is_backbone, weights.size, weights.num_classes)
    if found != expected:
        raise CheckError(
            f"{path}: holds {_describe(*found)}, and {entry.name} is {_describe(*expected)}",
            f"use the file from {entry.url}",
        )
    require_complete(weights.fit(), str(path))
    return dataclasses.replace(weights, label_set=entry.classes, activation=entry.activation)


def _describe(is_backbone: bool, size: str, num_classes: int) -> str:
    return f"backbone {size.upper()}" if is_backbone else f"D-FINE-{size.upper()} with {num_classes} classes"
