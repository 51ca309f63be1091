"""What is exported: a detector in torch, and what is known about where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfine_cli import checkpoint_format as keys
from dfine_cli.backends.published import open_published
from dfine_cli.backends.torch_backend import TorchDetector, open_checkpoint, read_checkpoint
from dfine_cli.errors import UsageError
from dfine_cli.model.weights import WEIGHTS
from dfine_cli.zoo.cache import hash_of

_CODE_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Source:
    """A checkpoint or file of weights, opened for export.

    Attributes:
        file: Where it was read from.
        detector: The detector in it, on the CPU.
        sha256: Hash of the file.
        licence: Of code and weights, as far as known.
        operating_point: What an evaluation stored in the checkpoint; None if none did.
        recipe: The resolved recipe of the run; None for published weights.
    """

    file: Path
    detector: TorchDetector
    sha256: str
    licence: str
    operating_point: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None


def open_source(file: Path, warn: Callable[[str], None] = lambda _: None) -> Source:
    """Open a checkpoint or a file of published weights.

    Args:
        file: A key of ``_OPENERS`` by its suffix.
        warn: Told what is odd about a file that is opened all the same.

    Raises:
        UsageError: It is neither.
        DfineError: It cannot be read.
    """
    if file.suffix.lower() not in _OPENERS:
        raise UsageError(
            f"{file}: only a checkpoint or a file of weights can be exported",
            f"give a run folder, a name of `dfine zoo list`, or a file: {', '.join(_OPENERS)}",
        )
    return _OPENERS[file.suffix.lower()](file, warn)


def _open_checkpoint(file: Path, warn: Callable[[str], None]) -> Source:
    detector = open_checkpoint(file, "cpu")
    content = read_checkpoint(file)
    return Source(
        file,
        detector,
        hash_of(file),
        f"{_CODE_LICENCE} (code); weights: their owner's",
        content.get(keys.OPERATING_POINT),
        content[keys.RECIPE],
    )


def _open_published(file: Path, warn: Callable[[str], None]) -> Source:
    rows = [entry for entry in WEIGHTS.values() if entry.file_name == file.name]
    weights = rows[0].licence if rows else "not known"
    detector = open_published(file, "cpu", warn)
    return Source(file, detector, hash_of(file), f"{_CODE_LICENCE} (code); weights: {weights}")


_OPENERS = {
    ".pt": _open_checkpoint,
    ".pth": _open_published,
    ".safetensors": _open_published,
    ".bin": _open_published,
}
