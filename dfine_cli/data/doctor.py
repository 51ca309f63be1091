"""Checks of a data set before anything is trained or evaluated on it.

Errors would stop or spoil a run, so they stop it here; warnings say what the loader puts right by itself;
notes are for information. Each kind of problem is one finding with a count, however often it occurs.
"""

from __future__ import annotations

import filecmp
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
    """Categories of each split against the classes of the run, or else those of the first split."""
    fix = "use the same list of categories in all annotation files"
    for split in splits:
        ids, names = set(split.class_map.category_ids), set(split.class_map.names)
        classes = set(zip(split.class_map.category_ids, split.class_map.names, strict=True))
        own = _categories(split)
        clashing = {(i, name) for i, name in own - classes if i in ids or name in names}
        if clashing:
            message = "{n} categories have another id or name than in the classes of the run"
            yield from split.finding("error", "classes", _list(clashing), message, fix)
        else:
            message = f"{{n}} categories are not in both {splits[0].name} and {split.name}"
            different = own ^ _categories(splits[0])
            yield from split.finding("warning", "class_list", _list(different), message, fix)


def _categories(split: Split) -> set[tuple[int, str]]:
    return {(category["id"], category["name"]) for category in split.file.categories}


def _list(categories: set[tuple[int, str]]) -> Iterator[str]:
    return (f"{i} {name!r}" for i, name in sorted(categories))


def _leaks(splits: Sequence[Split]) -> Iterator[Finding]:
    """Files in two splits with the same name and the same content."""
    for (one, first), (two, second) in combinations([(split, _files_by_name(split)) for split in splits], 2):
        shared = sorted(first.keys() & second.keys())
        yield from two.finding(
            "warning",
            "leak",
            (name for name in shared if filecmp.cmp(first[name], second[name], shallow=False)),
            f"{{n}} images are in {one.name} too: the score on {two.name} will be too good",
            f"remove them from {one.name} or {two.name}",
        )


def _files_by_name(split: Split) -> dict[str, Path]:
    return {probe.path.name: probe.path for probe in split.probes if probe.size is not None}
