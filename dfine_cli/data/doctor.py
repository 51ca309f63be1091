"""Checks of a data set before anything is trained or evaluated on it.

Errors would stop or spoil a run, so they stop it here; warnings say what the loader puts right by itself;
notes are for information. Each kind of problem is one finding with a count, however often it occurs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

from dfine_cli.data.checks import SPLIT_CHECKS, Probe, Split
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoFile, OnBadImage
from dfine_cli.data.findings import Finding, Report
from dfine_cli.data.images import Exif, ImageError, image_size, looks_complete, read_image

__all__ = ["Finding", "Progress", "Report", "check"]

Progress = Callable[[int, int], None]
"""Called with images done and images in all."""


def check(
    splits: Mapping[str, tuple[CocoFile, Path]],
    class_map: ClassMap,
    *,
    num_queries: int,
    exif: Exif = "apply",
    on_bad_image: OnBadImage = "stop",
    decode: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Check every split, and the splits against each other.

    Args:
        splits: Annotations and image folder by name of the split; ``train`` must not be empty.
        class_map: The classes of the run, made from the training annotations.
        num_queries: Objects the model can find in an image.
        exif: Whether images will be turned as their EXIF tag says.
        on_bad_image: With ``skip``, unreadable images are a warning.
        decode: Decode every image to find all damaged files, not only those that are cut off.
        progress: Called after each image.
    """
    total = sum(len(file.images) for file, _ in splits.values())
    done = 0
    checked: list[Split] = []
    findings: list[Finding] = []
    for name, (file, folder) in splits.items():
        probes: list[Probe] = []
        for probe in _probe_all(file, folder, exif, decode):
            probes.append(probe)
            done += 1
            if progress is not None:
                progress(done, total)
        split = Split(name, file, folder, class_map, probes, num_queries, exif, on_bad_image)
        checked.append(split)
        for find in SPLIT_CHECKS:
            findings.extend(find(split))
    findings.extend(_class_differences(checked))
    findings.extend(_leaks(checked))
    order = ("error", "warning", "note")
    return Report(tuple(sorted(findings, key=lambda finding: order.index(finding.severity))))


def _probe_all(file: CocoFile, folder: Path, exif: Exif, decode: bool) -> Iterator[Probe]:
    def probe(row: int) -> Probe:
        path = file.locate(row, folder)
        if not path.is_file():
            return Probe(path)
        try:
            size = image_size(path, exif)
            if decode or not looks_complete(path):
                read_image(path, exif)
            return Probe(path, size)
        except ImageError as error:
            return Probe(path, problem=error.message.removeprefix(f"{path}: "))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(probe, range(len(file.images)))


def _class_differences(splits: Sequence[Split]) -> Iterator[Finding]:
    """Categories of each split against the classes of the run and those of the first split."""
    for split in splits:
        ids_by_name = dict(zip(split.class_map.names, split.class_map.category_ids, strict=True))
        pairs = {(category["id"], category["name"]) for category in split.file.categories}
        clashing = {(i, name) for i, name in pairs if i in ids_by_name.values() or name in ids_by_name} - {
            (i, name) for name, i in ids_by_name.items()
        }
        yield from split.finding(
            "error",
            "classes",
            (f"{i} {name!r}" for i, name in sorted(clashing)),
            "{n} categories have another id or name than in the classes of the run",
            "use the same list of categories in all annotation files",
        )
        first = {(category["id"], category["name"]) for category in splits[0].file.categories}
        yield from split.finding(
            "warning",
            "class_list",
            (f"{i} {name!r}" for i, name in sorted((first ^ pairs) - clashing)),
            f"{{n}} categories are not in both {splits[0].name} and {split.name}",
            "use the same list of categories in all annotation files",
        )


def _leaks(splits: Sequence[Split]) -> Iterator[Finding]:
    """Files of the same name and length in two splits: the score would be too good."""
    files = [{(probe.path.name, _length(probe.path)) for probe in split.probes} for split in splits]
    for (one, first), (two, second) in combinations(zip(splits, files, strict=True), 2):
        yield from two.finding(
            "warning",
            "leak",
            (name for name, _ in sorted(first & second)),
            f"{{n}} images are in {one.name} too: the score on {two.name} will be too good",
            f"remove them from {one.name} or {two.name}",
        )


def _length(path: Path) -> int:
    """Bytes in the file, 0 if it is not there."""
    return path.stat().st_size if path.is_file() else 0
