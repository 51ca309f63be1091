"""The checks of one split; ``data.doctor`` runs them.

Each check is a function from a split to the findings in it, a row of ``SPLIT_CHECKS``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoFile, OnBadImage
from dfine_cli.data.findings import Finding, Severity
from dfine_cli.data.images import Exif, image_size
from dfine_cli.types import Size

Mask = NDArray[np.bool_]

_EXAMPLES = 5
_BORDER_PX = 1.0  # boxes further outside than rounding explains
_MIXED_UP = 0.1  # share of boxes over the border from which [x1, y1, x2, y2] is suspected


@dataclass(frozen=True)
class Probe:
    """What the file of an image is like."""

    path: Path
    size: Size | None = None
    """(height, width) as it will be read; None if it cannot be."""
    problem: str = ""
    """Why it cannot be read; empty if the file is not there."""


@dataclass(frozen=True, eq=False)
class Split:
    """One split and what is needed to judge it."""

    name: str
    file: CocoFile
    folder: Path
    class_map: ClassMap
    probes: Sequence[Probe]
    num_queries: int
    exif: Exif
    on_bad_image: OnBadImage

    @cached_property
    def objects_per_image(self) -> NDArray[np.int64]:
        """[images] annotations that are not crowd regions."""
        rows = self.file.image_rows[~self.file.annotations.crowd]
        return np.bincount(rows[rows >= 0], minlength=len(self.file.images))

    def finding(
        self,
        severity: Severity,
        code: str,
        places: Iterable[str],
        message: str,
        fix: str,
    ) -> Iterator[Finding]:
        """A finding with its places, or nothing if there are none; ``{n}`` in the message is their number."""
        found = tuple(places)
        if found:
            text = message.replace("{n}", str(len(found)))
            yield Finding(severity, code, self.name, text, fix, len(found), found[:_EXAMPLES])

    def name_images(self, rows: Iterable[int]) -> Iterator[str]:
        """Images as ``file name (id)``."""
        for row in rows:
            yield f"{self.file.images[row].file_name} (id {self.file.images[row].id})"

    def name_annotations(self, chosen: Mask) -> Iterator[str]:
        """The chosen annotations as ``annotation id in file name``."""
        for position in np.flatnonzero(chosen).tolist():
            row = int(self.file.image_rows[position])
            where = f" in {self.file.images[row].file_name}" if row >= 0 else ""
            yield f"annotation {self.file.annotations.ids[position]}{where}"


def _empty(split: Split) -> Iterator[Finding]:
    file = split.file
    if not file.images:
        yield from split.finding(
            "error", "no_images", [file.path.name], "there are no images", "check that this is the right file"
        )
    elif split.name == "train" and not split.objects_per_image.any():
        yield from split.finding(
            "error",
            "no_objects",
            [file.path.name],
            "no image has an object",
            "check `annotations` in the file",
        )
    empty = np.flatnonzero(split.objects_per_image == 0).tolist()
    yield from split.finding(
        "note",
        "background",
        split.name_images(empty),
        f"{{n}} of {len(file.images)} images have no objects and are kept",
        "nothing to do if that is meant",
    )


def _duplicates(split: Split) -> Iterator[Finding]:
    def repeated(values: Iterable[Any]) -> list[str]:
        return [str(value) for value, count in Counter(values).items() if count > 1]

    images, annotations = split.file.images, split.file.annotations
    fix = "give every entry its own id; files that were joined must be renumbered"
    image_ids = repeated(image.id for image in images)
    yield from split.finding("error", "image_id", image_ids, "{n} image ids occur more than once", fix)
    ids = repeated(annotations.ids.tolist())
    yield from split.finding("error", "annotation_id", ids, "{n} annotation ids occur more than once", fix)
    yield from split.finding(
        "warning",
        "file_name",
        repeated(image.file_name for image in images),
        "{n} file names occur more than once",
        "keep one entry per image, with all its objects",
    )


def _references(split: Split) -> Iterator[Finding]:
    yield from split.finding(
        "error",
        "unknown_image",
        split.name_annotations(split.file.image_rows < 0),
        "{n} annotations have an image_id that no image has",
        "add the images to `images`, or remove these annotations",
    )
    category_ids = split.file.annotations.category_ids
    known = sorted(split.class_map.category_ids)
    shown = ", ".join(map(str, known[:20])) + (", …" if len(known) > 20 else "")
    yield from split.finding(
        "error",
        "unknown_category",
        split.name_annotations(~np.isin(category_ids, known)),
        f"{{n}} annotations have a category_id that is not a class; classes have the ids {shown}",
        "add the categories to the training annotations, or correct the annotations",
    )


def _boxes(split: Split) -> Iterator[Finding]:
    boxes_xywh = split.file.annotations.boxes_xywh
    finite: Mask = np.all(np.isfinite(boxes_xywh), axis=1)
    yield from split.finding(
        "error",
        "bad_box",
        split.name_annotations(~finite),
        "{n} annotations have a bbox that is not four finite numbers",
        "write bbox as [x, y, width, height] in pixels, or remove these annotations",
    )
    flat: Mask = finite & np.any(boxes_xywh[:, 2:] <= 0, axis=1)
    yield from split.finding(
        "warning",
        "no_area",
        split.name_annotations(flat),
        "{n} boxes have no width or no height and are left out",
        "remove these annotations",
    )
    solid = finite & ~flat
    unit_problem = _wrong_unit(split, solid)
    yield from unit_problem or _outside(split, solid)


def _wrong_unit(split: Split, solid: Mask) -> list[Finding]:
    """Boxes that as a whole look like fractions or like corners."""
    boxes_xywh, size_wh = split.file.annotations.boxes_xywh, _image_sizes_wh(split)
    known = solid & np.isfinite(size_wh).all(1)
    boxes_xywh, size_wh = boxes_xywh[known], size_wh[known]
    places = split.name_annotations(known)
    if len(boxes_xywh) and boxes_xywh.max() <= 1:
        fix = "multiply x and width by the image width, y and height by the image height"
        return list(
            split.finding("error", "fractions", places, "all {n} boxes are fractions, not pixels", fix)
        )
    far: Mask = np.any(boxes_xywh[:, :2] + boxes_xywh[:, 2:] > size_wh + _BORDER_PX, axis=1)
    as_corners = (boxes_xywh[:, 2:] > boxes_xywh[:, :2]).all() and (
        boxes_xywh[:, 2:] <= size_wh + _BORDER_PX
    ).all()
    if len(far) and far.mean() >= _MIXED_UP and as_corners:
        message = (
            "the {n} boxes look like [x1, y1, x2, y2]: read as [x, y, width, height] many leave the image"
        )
        fix = "write bbox as [x, y, width, height]: width = x2 - x1, height = y2 - y1"
        return list(split.finding("error", "corners", places, message, fix))
    return []


def _outside(split: Split, solid: Mask) -> Iterator[Finding]:
    boxes_xywh, size_wh = split.file.annotations.boxes_xywh, _image_sizes_wh(split)
    low, high = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    with np.errstate(invalid="ignore"):
        outside = solid & ((high <= 0) | (low >= size_wh)).any(1)
        over = solid & ~outside & ((low < -_BORDER_PX) | (high > size_wh + _BORDER_PX)).any(1)
    yield from split.finding(
        "error",
        "outside",
        split.name_annotations(outside),
        "{n} boxes are wholly outside their image",
        "correct them or remove them; check that image sizes and boxes have the same unit",
    )
    yield from split.finding(
        "warning",
        "clipped",
        split.name_annotations(over),
        f"{{n}} boxes go more than {_BORDER_PX:g} pixel over the border and are clipped",
        "nothing to do if that is meant",
    )


def _image_sizes_wh(split: Split) -> NDArray[np.float64]:
    """[A, 2] width and height of each annotation's image, NaN where unknown."""
    sizes = [
        (image.width, image.height)
        if image.width > 0 and image.height > 0
        else (probe.size or (np.nan, np.nan))[::-1]
        for image, probe in zip(split.file.images, split.probes, strict=True)
    ]
    return np.array([*sizes, (np.nan, np.nan)])[split.file.image_rows]  # row -1 is the NaN at the end


def _files(split: Split) -> Iterator[Finding]:
    probes = list(enumerate(split.probes))
    missing = [row for row, probe in probes if probe.size is None and not probe.problem]
    yield from split.finding(
        "error",
        "missing_file",
        split.name_images(missing),
        f"{{n}} of {len(probes)} images are not in {split.folder}",
        "check the images folder; `file_name` is relative to it",
    )
    yield from split.finding(
        "warning" if split.on_bad_image == "skip" else "error",
        "unreadable",
        (f"{probe.path.name}: {probe.problem}" for _, probe in probes if probe.problem),
        "{n} images cannot be read" + (" and are skipped" if split.on_bad_image == "skip" else ""),
        "replace or remove them; in training, data.on_bad_image=skip leaves them out",
    )


def _sizes(split: Split) -> Iterator[Finding]:
    unstated, turned, differing = [], [], []
    other: Exif = "ignore" if split.exif == "apply" else "apply"
    for image, probe in zip(split.file.images, split.probes, strict=True):
        stated = (image.height, image.width)
        if probe.size is None or stated == probe.size:
            continue
        place = f"{image.file_name} (id {image.id}): {image.width}x{image.height}"
        if min(stated) <= 0:
            unstated.append(place)
        elif stated == probe.size[::-1] == image_size(probe.path, other):
            turned.append(place)
        else:
            differing.append(f"{place}, the file is {probe.size[1]}x{probe.size[0]}")
    yield from split.finding(
        "warning",
        "no_size",
        unstated,
        "{n} images have no width and height in the annotations; those of the files are used",
        "add width and height to `images`",
    )
    yield from split.finding(
        "error",
        "exif_size",
        turned,
        f"{{n}} images are annotated as they are {'without' if other == 'ignore' else 'with'} the rotation of "
        "their EXIF tag",
        f"set data.exif to {other}",
    )
    yield from split.finding(
        "error",
        "size",
        differing,
        "{n} images have another size than the annotations say",
        "annotate the files as they are, or give the files the annotations were made for",
    )


def _queries(split: Split) -> Iterator[Finding]:
    counts = split.objects_per_image
    crowded = np.flatnonzero(counts > split.num_queries).tolist()
    most = int(counts.max(initial=0))
    yield from split.finding(
        "warning",
        "queries",
        split.name_images(crowded),
        f"{{n}} images have more objects, up to {most}, than the model has queries ({split.num_queries}); "
        "the rest cannot be found",
        f"set model.num_queries to {most} or more, or cut the images into tiles",
    )


SPLIT_CHECKS: tuple[Callable[[Split], Iterator[Finding]], ...] = (
    _empty,
    _files,
    _sizes,
    _duplicates,
    _references,
    _boxes,
    _queries,
)
