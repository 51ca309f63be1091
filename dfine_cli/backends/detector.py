"""One calling convention for every way to run a detector, and the table that opens one by file suffix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

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

    @property
    def operating_point(self) -> dict[str, Any] | None:
        """What an evaluation stored (``checkpoint_format.OPERATING_POINT``); None if it is not known."""

    def detect(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first.

        Args:
            images: [B, 3, H, W] RGB, as ``data.preprocess.resize`` makes them.
            sizes: (height, width) of each original image in pixels; boxes are given in these pixels.
        """


@dataclass(frozen=True)
class OpenOptions:
    """What an opener may be told.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        input_size: (height, width) in pixels to run at; None for that of the file.
        classes: Classes of a file that does not say them; None for COCO's there.
        threads: CPU threads; None for as many as there are CPUs.
        warn: Told what is odd about a file that is opened all the same.
    """

    device: str = "auto"
    input_size: Size | None = None
    classes: ClassMap | None = None
    threads: int | None = None
    warn: Callable[[str], None] = lambda _: None


def _open_torch(path: Path, options: OpenOptions) -> Detector:
    from dfine_cli.backends.torch_backend import open_checkpoint, with_options

    return with_options(open_checkpoint(path, options.device), options)


def _open_published(path: Path, options: OpenOptions) -> Detector:
    from dfine_cli.backends.published import open_published
    from dfine_cli.backends.torch_backend import with_options

    return with_options(open_published(path, options.device, options.warn), options)


def _open_onnx(path: Path, options: OpenOptions) -> Detector:
    from dfine_cli.backends.onnx_backend import open_onnx

    return open_onnx(path, options)


def _open_openvino(path: Path, options: OpenOptions) -> Detector:
    from dfine_cli.backends.openvino_backend import open_openvino

    return open_openvino(path, options)


def _open_tensorrt(path: Path, options: OpenOptions) -> Detector:
    from dfine_cli.backends.tensorrt_backend import open_engine

    return open_engine(path, options)


Opener = Callable[[Path, OpenOptions], Detector]

TRAINED: dict[str, Opener] = {
    ".pt": _open_torch,
    ".pth": _open_published,
    ".safetensors": _open_published,
    ".bin": _open_published,
}
"""Suffixes of files with weights."""
EXPORTED: dict[str, Opener] = {
    ".onnx": _open_onnx,
    ".xml": _open_openvino,
    ".engine": _open_tensorrt,
}
"""Suffixes of files that run without PyTorch."""
OPENERS = TRAINED | EXPORTED
"""File suffix to opener; each imports its runtime only when it is called."""


def open_detector(path: Path, device: str = "auto", options: OpenOptions | None = None) -> Detector:
    """Open a checkpoint or artefact, or the best checkpoint of a run folder.

    Args:
        path: The file or folder.
        device: See ``OpenOptions``.
        options: All that can be said, in place of the device alone.

    Raises:
        UsageError: There is no such file, its suffix is not in ``OPENERS``, or the options do not fit it.
        DfineError: The file cannot be read; its opener says why.
        MissingError: The runtime or the device is not there.
    """
    file = find_weights(path)
    opener = OPENERS.get(file.suffix.lower())
    if opener is None:
        raise UsageError(
            f"{file}: a detector cannot be opened from a `{file.suffix or 'suffixless'}` file",
            f"known: {', '.join(OPENERS)}, or a run folder",
        )
    return opener(file, options or OpenOptions(device))


def find_weights(path: Path) -> Path:
    """``path`` itself if it is a file; in a run folder ``weights/best.pt``, in one of Hugging Face its model.

    Raises:
        UsageError: Neither is there.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(
            f"{path}: no such file or folder", "give a checkpoint, an exported file or the folder of a run"
        )
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    best, last = path / "weights" / "best.pt", path / "weights" / "last.pt"
    if best.is_file():
        return best
    hint = f"its last checkpoint is {last}" if last.is_file() else "give a checkpoint or the folder of a run"
    raise UsageError(f"{path}: no weights/best.pt in this folder", hint)
