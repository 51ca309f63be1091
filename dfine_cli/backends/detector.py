"""One calling convention for every way to run a detector, and the table that opens one by file suffix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from dfine_cli.data.classes import ClassMap
from dfine_cli.errors import UsageError
from dfine_cli.types import Detections, Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Detector(Protocol):
    """Anything that turns preprocessed images into detections; NumPy in, NumPy out."""

    @property
    def name(self) -> str:
        """What it is, for tables and file names, such as ``dfine-n``."""

    @property
    def classes(self) -> ClassMap:
        """The classes its labels index."""

    @property
    def input_size(self) -> Size:
        """(height, width) in pixels that images are resized to."""

    @property
    def exif(self) -> Literal["apply", "ignore"]:
        """Whether images are turned as their EXIF tag says before it sees them."""

    def detect(self, images: NDArray[np.float32], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first.

        Args:
            images: [B, 3, H, W] RGB in [0, 1], as ``data.preprocess`` makes them.
            sizes: (height, width) of each original image in pixels; boxes are given in these pixels.
        """


def _open_torch(path: Path, device: str) -> Detector:
    from dfine_cli.backends.torch_backend import open_checkpoint

    return open_checkpoint(path, device)


def _open_published(path: Path, device: str) -> Detector:
    from dfine_cli.backends.published import open_published

    return open_published(path, device)


OPENERS: dict[str, Callable[[Path, str], Detector]] = {
    ".pt": _open_torch,
    ".pth": _open_published,
    ".safetensors": _open_published,
}
"""File suffix to opener; each imports its runtime only when it is called."""


def open_detector(path: Path, device: str = "auto") -> Detector:
    """Open a checkpoint or artefact, or the best checkpoint of a run folder.

    Raises:
        UsageError: There is no such file, or its suffix is not in ``OPENERS``.
        DfineError: The file cannot be read; its opener says why.
    """
    file = find_weights(path)
    opener = OPENERS.get(file.suffix.lower())
    if opener is None:
        raise UsageError(
            f"{file}: a detector cannot be opened from a `{file.suffix or 'suffixless'}` file",
            f"known: {', '.join(OPENERS)}, or a run folder",
        )
    return opener(file, device)


def find_weights(path: Path) -> Path:
    """``path`` itself if it is a file; in a run folder ``weights/best.pt``, in one of Hugging Face its model.

    Raises:
        UsageError: Neither is there.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"{path}: no such file or folder", "give a checkpoint or the folder of a run")
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    best, last = path / "weights" / "best.pt", path / "weights" / "last.pt"
    if best.is_file():
        return best
    hint = f"its last checkpoint is {last}" if last.is_file() else "give a checkpoint or the folder of a run"
    raise UsageError(f"{path}: no weights/best.pt in this folder", hint)
