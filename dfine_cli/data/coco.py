"""COCO annotations: one JSON file, checked for its form, and the samples it describes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.images import Exif, ImageError, read_image
from dfine_cli.errors import CheckError, UsageError
from dfine_cli.types import Sample

OnBadImage = Literal["stop", "skip"]

_IDS = range(-(2**63), 2**63)
"""What fits into the arrays that hold ids."""
_MOST_PX = 1e9
"""A coordinate beyond is a mistake, and would overflow in the arithmetic that is to find it."""


class CocoImage(NamedTuple):
    """An entry of ``images``."""

    id: int
    file_name: str
    height: int
    """In pixels; 0 if the file does not say."""
    width: int
    """In pixels; 0 if the file does not say."""


class Annotations(NamedTuple):
    """The A entries of ``annotations`` as columns, in the order of the file."""

    ids: NDArray[np.int64]
    """[A]"""
    image_ids: NDArray[np.int64]
    """[A]"""
    category_ids: NDArray[np.int64]
    """[A]"""
    boxes_xywh: NDArray[np.float64]
    """[A, 4] in pixels; NaN where ``bbox`` is absent or is not four finite numbers."""
    crowd: NDArray[np.bool_]
    """[A] True for regions of many objects, which nothing is trained on."""


@dataclass(frozen=True, eq=False)
class CocoFile:
    """An annotation file with the right form; whether its contents make sense is for ``data.doctor``."""

    path: Path
    images: tuple[CocoImage, ...]
    annotations: Annotations
    categories: tuple[dict[str, Any], ...]
    """Entries with ``id`` and ``name``, as in the file."""

    @cached_property
    def image_rows(self) -> NDArray[np.int64]:
        """[A] position in ``images`` of each annotation's image, -1 if there is none with its id."""
        rows = {image.id: row for row, image in enumerate(self.images)}
        return np.array([rows.get(i, -1) for i in self.annotations.image_ids.tolist()], np.int64)

    def locate(self, row: int, images: Path) -> Path:
        """Path of the image at ``row``: in the folder ``images`` or, if it is not there, beside the JSON."""
        return find_image(self.images[row].file_name, images, self.path.parent)


def find_image(file_name: str, images: Path, beside: Path) -> Path:
    r"""Path of an image: in the folder ``images`` or, if it is there instead, in the folder ``beside``.

    Files written on Windows may say ``folder\name``; that is read as ``folder/name`` where there is no such file.
    """
    names = dict.fromkeys((file_name, file_name.replace("\\", "/")))
    paths = [folder / name for name in names for folder in (images, beside)]
    return next((path for path in paths if path.exists()), paths[0])


def load_coco(path: Path) -> CocoFile:
    """Read an annotation file and check its form.

    Raises:
        UsageError: There is no such file.
        CheckError: It is not JSON, or a key is missing or of the wrong type; the message says where.
    """
    content = _read_json(path)
    images = _entries(content, "images", path)
    annotations = _entries(content, "annotations", path)
    categories = _entries(content, "categories", path)
    _Column(categories, "categories", path).values("id", int)
    _Column(categories, "categories", path).values("name", str)
    return CocoFile(path, _images(images, path), _annotations(annotations, path), tuple(categories))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: annotation file not found", "check the path in the recipe") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder", "give the JSON file inside it") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "check that it may be read") from None
    except json.JSONDecodeError as error:
        raise CheckError(
            f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}",
            "the file may be cut off: export or download it again",
        ) from None
    except UnicodeDecodeError as error:
        raise CheckError(f"{path}: not a text file: {error}", "give a COCO JSON file") from None
    except (RecursionError, ValueError) as error:  # brackets in brackets, or a number of thousands of digits
        raise CheckError(f"{path}: cannot be read as JSON: {error}", "export or download it again") from None


def _entries(content: Any, key: str, path: Path) -> list[dict[str, Any]]:
    hint = "a COCO detection file has the lists `images`, `annotations` and `categories`"
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise CheckError(f"{path}: the top level is a {kind}, not an object", hint)
    if key not in content:
        raise CheckError(f"{path}: key `{key}` is missing; there are {', '.join(content) or 'none'}", hint)
    entries = content[key]
    if not isinstance(entries, list):
        raise CheckError(f"{path}: `{key}` is a {type(entries).__name__}, not a list", hint)
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise CheckError(f"{path}: {key}[{position}] is a {type(entry).__name__}, not an object", hint)
    return entries


class _Column(NamedTuple):
    """Values of one key over all entries of a list, with an error that names the first bad one."""

    entries: list[dict[str, Any]]
    name: str
    path: Path

    def values(self, key: str, kind: type, default: Any = None) -> list[Any]:
        column = [entry.get(key, default) for entry in self.entries]
        if set(map(type, column)) <= {kind} and (kind is not int or all(map(_IDS.__contains__, column))):
            return column
        row = next(r for r, v in enumerate(column) if type(v) is not kind or (kind is int and v not in _IDS))
        where, entry = f"{self.path}: {self.name}[{row}]", self.entries[row]
        label = f" (id {entry['id']!r})" if key != "id" and "id" in entry else ""
        if key not in entry:
            raise CheckError(f"{where}{label}: key `{key}` is missing", f"add `{key}` to this entry")
        wanted = {int: "a whole number of 64 bits", str: "a text"}[kind]
        raise CheckError(
            f"{where}{label}: `{key}` = {column[row]!r} is not {wanted}",
            f"write `{key}` as {wanted} in all entries of `{self.name}`",
        )


def _images(entries: list[dict[str, Any]], path: Path) -> tuple[CocoImage, ...]:
    column = _Column(entries, "images", path)
    names = column.values("file_name", str)
    heights, widths = column.values("height", int, default=0), column.values("width", int, default=0)
    return tuple(map(CocoImage, column.values("id", int), names, heights, widths))


def _annotations(entries: list[dict[str, Any]], path: Path) -> Annotations:
    column = _Column(entries, "annotations", path)
    boxes = [_four_numbers(entry.get("bbox")) for entry in entries]
    return Annotations(
        ids=np.array(column.values("id", int), np.int64),
        image_ids=np.array(column.values("image_id", int), np.int64),
        category_ids=np.array(column.values("category_id", int), np.int64),
        boxes_xywh=np.array(boxes, np.float64).reshape(-1, 4),
        crowd=_crowd(entries, path),
    )


def _crowd(entries: list[dict[str, Any]], path: Path) -> NDArray[np.bool_]:
    flags = [entry.get("iscrowd", 0) for entry in entries]
    for row, flag in enumerate(flags):
        if flag not in (0, 1):
            raise CheckError(
                f"{path}: annotations[{row}] (id {entries[row].get('id')}): `iscrowd` = {flag!r} is not 0 or 1",
                "write 1 for regions of many objects, 0 for single ones",
            )
    return np.array(flags, np.bool_)


def _four_numbers(bbox: Any) -> Sequence[float]:
    if isinstance(bbox, list) and len(bbox) == 4 and all(map(_is_coordinate, bbox)):
        return bbox
    return (np.nan,) * 4


def _is_coordinate(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _MOST_PX  # which NaN is not


class CocoDataset:
    """Images with their objects, by index; a map-style dataset for a PyTorch loader.

    Crowd regions are left out, boxes are clipped to the image, and boxes that are then empty are left out.
    Annotations are held as arrays, so a copy per worker is cheap and stays shared after a fork.

    With ``on_bad_image="skip"`` an image that cannot be read is replaced by the next one in the file that can,
    going round at the end: the same in every worker and in every run. Each process counts what it met.

    Args:
        file: The annotations.
        images: Folder the file names are relative to.
        class_map: From category ids to class indices.
        exif: Turn images as their EXIF tag says, or not.
        on_bad_image: Stop at an image that cannot be read, or skip it.

    Raises:
        CheckError: An annotation has a category that is not in ``class_map``.
    """

    def __init__(
        self,
        file: CocoFile,
        images: Path,
        class_map: ClassMap,
        *,
        exif: Exif = "apply",
        on_bad_image: OnBadImage = "stop",
    ) -> None:
        self._images = images
        self._beside = file.path.parent
        self._names = tuple(image.file_name for image in file.images)
        self._ids = np.array([image.id for image in file.images], np.int64)
        self._exif: Exif = exif
        self._on_bad_image = on_bad_image
        self._bad: set[int] = set()
        kept = np.flatnonzero(~file.annotations.crowd & (file.image_rows >= 0))
        kept = kept[np.argsort(file.image_rows[kept], kind="stable")]
        self._boxes_xyxy = _corners(file.annotations.boxes_xywh[kept])
        self._labels = _indices(file.annotations.category_ids[kept], class_map)
        self._starts = np.searchsorted(file.image_rows[kept], np.arange(len(self._names) + 1))

    def __len__(self) -> int:
        """Number of images, readable or not."""
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        """The sample at ``index``.

        Raises:
            ImageError: It cannot be read, or with ``skip`` none can.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        for step in range(len(self)):
            row = (index + step) % len(self)
            if row in self._bad:
                continue
            try:
                return self._read(row)
            except ImageError:
                if self._on_bad_image == "stop":
                    raise
                self._bad.add(row)
        raise ImageError(f"{self._images}: none of the {len(self)} images can be read", "check the folder")

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """[images] id of each image in the annotation file."""
        return self._ids

    @property
    def skipped(self) -> int:
        """Images this process could not read and has skipped."""
        return len(self._bad)

    def image_path(self, index: int) -> Path:
        """Path of an image's file."""
        return find_image(self._names[index], self._images, self._beside)

    def _read(self, row: int) -> Sample:
        image = read_image(self.image_path(row), self._exif)
        height, width = image.shape[:2]
        objects = slice(self._starts[row], self._starts[row + 1])
        limits = np.array((width, height, width, height), np.float32)
        boxes_xyxy = self._boxes_xyxy[objects].clip(0, limits)
        solid = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(1)  # False for NaN too
        return Sample(image, boxes_xyxy[solid], self._labels[objects][solid], int(self._ids[row]))


def _corners(boxes_xywh: NDArray[np.float64]) -> NDArray[np.float32]:
    low = boxes_xywh[:, :2]
    return np.concatenate((low, low + boxes_xywh[:, 2:]), 1).astype(np.float32)


def _indices(category_ids: NDArray[np.int64], class_map: ClassMap) -> NDArray[np.int64]:
    unique, positions = np.unique(category_ids, return_inverse=True)
    indices = [class_map.index_of(category_id) for category_id in unique.tolist()]
    return np.array(indices, np.int64)[positions]
