"""Where a data set keeps its annotation files and images, and how to split one that is not split."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dfine_cli.data.coco import CocoFile, find_image, load_coco
from dfine_cli.errors import UsageError
from dfine_cli.whole_file import whole_files

SPLITS = ("train", "val", "test")

_SPLIT_WORDS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_SPLIT_WORDS |= {name: name for name in SPLITS}
_IMAGE_FOLDERS = ("images", "Images", "JPEGImages", "imgs")
_COCO_NAMES = ("instances_*.json", "_annotations.coco.json")
"""Names that promise annotations: such a file is read, so that damage to it is told."""
_COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_PROBED_IMAGES = 20
_LAYOUTS_HINT = (
    "known layouts: annotations/instances_{train,val}.json with train/ and val/; "
    "train/_annotations.coco.json with the images beside it; one JSON file with an images/ folder; "
    "or write data.train_json and data.train_images into a recipe"
)


class SplitFiles(NamedTuple):
    """Where one split is."""

    json: Path
    images: Path


@dataclass(frozen=True)
class Layout:
    """The splits that were found."""

    root: Path
    train: SplitFiles | None = None
    val: SplitFiles | None = None
    test: SplitFiles | None = None
    single: bool = False
    """There is one annotation file in all; it counts as ``train``, whatever its name."""
    single_name: str | None = None
    """The split that the name or folder of a single file promises."""

    @property
    def splits(self) -> dict[str, SplitFiles]:
        """The splits that are there, by name."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: files for name, files in found.items() if files is not None}

    def require(self, name: str) -> SplitFiles:
        """The split ``name``.

        Raises:
            UsageError: It is not there; no other split takes its place.
        """
        if name not in self.splits:
            raise UsageError(
                f"{self.root}: there is no split `{name}`; found: {', '.join(self.splits)}", _LAYOUTS_HINT
            )
        return self.splits[name]


def find_layout(path: Path) -> Layout:
    """The annotation files and image folders of the data set at ``path``.

    Args:
        path: A folder, or one annotation file.

    Raises:
        UsageError: Nothing is there, nothing is known about it, or several files could be the same split.
    """
    if path.is_file():
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        return _single(path, root)
    if not path.is_dir():
        raise UsageError(f"{path}: no such file or folder", "give a data set folder or a COCO JSON file")
    if path.name == "annotations":  # the images are beside it, not in it
        path = path.parent
    files = _annotation_files(path)
    if not files:
        raise UsageError(f"{path}: no COCO annotation file in it or its folders", _LAYOUTS_HINT)
    if len(files) == 1:
        return _single(files[0], path)
    chosen = _choose(files, path)
    splits = {name: SplitFiles(file, _find_images(file, path, name)) for name, file in chosen.items()}
    return Layout(path, splits.get("train"), splits.get("val"), splits.get("test"))


def _single(file: Path, root: Path) -> Layout:
    name = _split_name(file, root)
    return Layout(
        root, train=SplitFiles(file, _find_images(file, root, name or "")), single=True, single_name=name
    )


def _annotation_files(root: Path) -> list[Path]:
    """COCO files in ``root`` and the folders in it; ``instances_*`` alone where COCO's own set is unpacked.

    A JSON file that is the only one is meant, whatever is in it: who reads it says what is wrong with it.
    """
    there = sorted(path for pattern in ("*.json", "*/*.json") for path in root.glob(pattern))
    files = there if len(there) == 1 else [path for path in there if _is_coco(path)]
    instances = [p for p in files if p.name.startswith("instances_")]
    return instances or files


def _is_coco(path: Path) -> bool:
    """Whether the name promises a COCO file or its keys are in the text; parsing large files takes long."""
    if any(path.match(name) for name in _COCO_NAMES):
        return True
    text = path.read_bytes()
    return all(key in text for key in _COCO_KEYS)


def _split_name(path: Path, root: Path) -> str | None:
    """The split that the name of the file tells, or else that of its folder."""
    for name in (path.stem, path.parent.name if path.parent != root else ""):
        words = re.findall("[a-z]+", name.lower())
        found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
        if len(found) == 1:
            return found.pop()
    return None


def _choose(files: list[Path], root: Path) -> dict[str, Path]:
    """One file per split."""
    candidates: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        candidates[_split_name(file, root) or "?"].append(file)
    unnamed = candidates.pop("?", [])
    for name, found in [*candidates.items(), *([] if candidates else [("any split", unnamed)])]:
        if len(found) > 1:
            listed = ", ".join(str(file.relative_to(root)) for file in found)
            raise UsageError(
                f"{root}: several files could be {name}: {listed}",
                "give the file itself, or write data.train_json and data.val_json into a recipe",
            )
    return {name: found[0] for name, found in candidates.items()}


def _find_images(json_path: Path, root: Path, split: str) -> Path:
    """The folder with most of the first images that the file names."""
    candidates = list(dict.fromkeys(_image_folders(json_path, root, split)))
    if len(candidates) == 1:
        return candidates[0]
    names = [image.file_name for image in load_coco(json_path).images[:_PROBED_IMAGES]]
    counts = [sum(find_image(name, folder, folder).is_file() for name in names) for folder in candidates]
    if names and not any(counts):
        looked = ", ".join(str(folder) for folder in candidates)
        raise UsageError(
            f"{json_path}: its images ({names[0]}, …) are in none of: {looked}",
            "put them beside the JSON file, or write data.train_images into a recipe",
        )
    return candidates[counts.index(max(counts))]


def _image_folders(json_path: Path, root: Path, split: str) -> Iterator[Path]:
    """Folders that may hold the images, the likeliest first."""
    year = re.search(r"[a-z]+\d{4}$", json_path.stem)  # instances_train2017 -> train2017
    aliases = [word for word, name in _SPLIT_WORDS.items() if name == split]
    names = [*([year.group()] if year else []), *([split] if split else []), *aliases]
    for base in dict.fromkeys((json_path.parent, root)):
        parents = [base, *(base / folder for folder in _IMAGE_FOLDERS)]
        below = [parent / name for parent in parents for name in names]
        below += [base / name / folder for folder in _IMAGE_FOLDERS for name in names]
        yield from (folder for folder in [*below, *reversed(parents)] if folder.is_dir())


def split_coco(file: CocoFile, share: float, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of a training and a validation file made from one annotation file.

    Images are ordered by a hash of the seed and their file name, and the first go to validation: the split
    does not depend on ids or order, and few images move when some are added.

    Args:
        file: What to split; it is read again to keep every key.
        share: Share of the images that go to validation; at least one does, and at least one does not.
        seed: Another seed, another split.

    Raises:
        UsageError: There are fewer than two images.
    """
    if len(file.images) < 2:
        raise UsageError(f"{file.path}: {len(file.images)} image cannot be split", "add images")
    order = sorted(file.images, key=lambda image: _digest(seed, image.file_name))
    count = min(max(round(share * len(order)), 1), len(order) - 1)
    val_ids = {image.id for image in order[:count]}
    content = json.loads(file.path.read_bytes())
    return _subset(content, val_ids, inside=False), _subset(content, val_ids, inside=True)


def _digest(seed: int, file_name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{file_name}".encode()).digest()


def _subset(content: dict[str, Any], image_ids: set[int], inside: bool) -> dict[str, Any]:
    images = [image for image in content["images"] if (image["id"] in image_ids) == inside]
    annotations = [a for a in content["annotations"] if (a["image_id"] in image_ids) == inside]
    return {**content, "images": images, "annotations": annotations}


def write_json_files(contents: Mapping[Path, Any]) -> None:
    """Write files of JSON so that each is whole or not there, and none is replaced before all are written."""
    with whole_files(*contents) as parts:
        for part, content in zip(parts, contents.values(), strict=True):
            part.write_text(json.dumps(content), encoding="utf-8")
