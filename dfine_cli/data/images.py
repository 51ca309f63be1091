"""Image files: any sane file becomes RGB in 8 bits, any other an error that names it.

What becomes of odd pixels: alpha is dropped (not blended), palettes and grey are expanded to RGB, 16 bits
are scaled to 8 by 1/257, CMYK is converted by Pillow. The content decides what a file is, not its name.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dfine_cli.errors import DfineError

Exif = Literal["apply", "ignore"]
Pixels = NDArray[np.uint8]

_UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, cv2.error, Image.DecompressionBombError)
_ORIENTATION_TAG = 0x0112
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ENDINGS = {b"\xff\xd8": b"\xff\xd9", _PNG_SIGNATURE: b"IEND\xaeB`\x82"}
"""How a JPEG and a PNG file begin, and how they end."""

# What OpenCV decodes, about twice as fast as Pillow. Some of its versions fill the missing part of a truncated
# file with grey, so only a file with the right ending is given to it.
_FAST = {(kind, mode) for kind in ("JPEG", "MPO", "PNG") for mode in ("RGB", "L")}

_ORIENTATIONS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1],
    7: lambda pixels: pixels.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda pixels: pixels.transpose(1, 0, 2)[::-1],
}
"""What turns stored pixels upright, by EXIF orientation; 1 and unknown values need nothing."""
_SWAP_SIDES = {5, 6, 7, 8}


class ImageError(DfineError):
    """An image file is missing, truncated, or not an image."""


def read_image(path: Path, exif: Exif = "apply") -> Pixels:
    """Pixels [H, W, 3] uint8 RGB of an image file.

    Args:
        path: The file.
        exif: Turn the image as its EXIF tag says, or leave the pixels as stored.

    Raises:
        ImageError: The file is missing, truncated, corrupt or of an unknown kind.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            orientation = _orientation(image) if exif == "apply" else 1
            pixels = _decode(data, image)
    except _UNREADABLE as error:
        raise _explain(path, error) from error
    turn = _ORIENTATIONS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def image_size(path: Path, exif: Exif = "apply") -> tuple[int, int]:
    """(height, width) in pixels as ``read_image`` would give them, from the header of the file.

    Raises:
        ImageError: The file is missing or has no readable header.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = exif == "apply" and _orientation(image) in _SWAP_SIDES
    except _UNREADABLE as error:
        raise _explain(path, error) from error
    return (width, height) if turned else (height, width)


def looks_complete(path: Path) -> bool:
    """Whether the file ends as its format does: a quick look that finds most truncated files.

    False only asks for a closer look, since programs may append to an image. Formats without a fixed end
    always look complete.
    """
    with path.open("rb") as file:
        start = file.read(len(_PNG_SIGNATURE))
        ending = next((end for magic, end in _ENDINGS.items() if start.startswith(magic)), b"")
        file.seek(-min(len(ending), path.stat().st_size), os.SEEK_END)
        return file.read() == ending


def _decode(data: bytes, image: Image.Image) -> Pixels:
    """Stored pixels as [H, W, 3] uint8 RGB, by OpenCV where it is safe and by Pillow elsewhere."""
    if data.startswith(_PNG_SIGNATURE) and data[24] == 16:
        return _decode_png16(data)
    if (image.format, image.mode) in _FAST and data.endswith(tuple(_ENDINGS.values())):
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if bgr is not None:  # else Pillow decides, and says what is wrong
            return _to_rgb(bgr)
    return _decode_with_pillow(image)


def _decode_png16(data: bytes) -> Pixels:
    """A 16-bit PNG; Pillow would cut colour to 8 bits and refuse to convert grey."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if bgr is None:
        raise OSError("image file is truncated or corrupt")
    return _to_rgb(_to_8_bits(bgr.astype(np.uint32)))


def _decode_with_pillow(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        grey = _to_8_bits(np.asarray(image).astype(np.uint32))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, which has no agreed brightness range")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def _to_8_bits(values: NDArray[np.uint32]) -> Pixels:
    """0..65535 to 0..255, rounded: white stays white."""
    return ((values + 128) // 257).astype(np.uint8)


def _to_rgb(bgr: MatLike) -> Pixels:
    """Swap in place: a new array of this size costs more than the swap."""
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr).astype(np.uint8, copy=False)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 from the header; 1 where there is none, or none that can be read."""
    if "exif" not in image.info:  # for PNG, getexif() would decode the whole file to look behind the pixels
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1


def _explain(path: Path, error: BaseException) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{path}: image not found", "check the images folder and `file_name` in the JSON")
    if isinstance(error, UnidentifiedImageError):
        return ImageError(f"{path}: not an image, or cut off in its header", "replace or remove the file")
    return ImageError(
        f"{path}: cannot read the image: {error}",
        "replace or remove the file; in training, data.on_bad_image=skip leaves it out",
    )
