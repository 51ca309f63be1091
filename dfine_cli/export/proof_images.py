"""The pictures on which an exported file is compared with the checkpoint it was made from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import load_coco
from dfine_cli.data.images import read_image
from dfine_cli.data.layout import SplitFiles
from dfine_cli.data.synthetic import draw_scene
from dfine_cli.errors import UsageError
from dfine_cli.evaluation.score import require_known_classes

DRAWN = 8
"""Built-in pictures."""
_DRAWN_SIZE = (480, 640)


@dataclass(frozen=True)
class ProofImages:
    """Where the pictures are.

    Attributes:
        files: Annotated images; None for the built-in pictures, which show none of the detector's classes.
        told: What they are, in words.
        most: How many are used at most, evenly taken from all.
    """

    files: SplitFiles | None
    told: str
    most: int

    def check(self, classes: ClassMap) -> None:
        """Refuse data that cannot prove anything, before the work begins.

        Raises:
            UsageError: There are no images, or they have classes that the detector does not have.
            DfineError: The annotations cannot be read.
        """
        if self.files is None:
            return
        truth = load_coco(self.files.json)
        if not truth.images:
            raise UsageError(
                f"{self.files.json}: has no images to prove the export on", "give others with --data"
            )
        require_known_classes(classes, truth)

    @contextmanager
    def taken(self) -> Iterator[SplitFiles | None]:
        """The files with no more than ``most`` images, while they are needed."""
        if self.files is None:
            yield None
            return
        content = json.loads(self.files.json.read_bytes())
        images = content["images"]
        if len(images) <= self.most:
            yield self.files
            return
        kept = [images[row] for row in evenly(len(images), self.most)]
        ids = {image["id"] for image in kept}
        shown = [entry for entry in content["annotations"] if entry["image_id"] in ids]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, self.files.json.name)
            file.write_text(json.dumps({**content, "images": kept, "annotations": shown}), encoding="utf-8")
            # An image that lies beside its annotations is not beside this file.
            beside = self.files.json.parent
            there = (self.files.images / kept[0]["file_name"]).exists()
            yield SplitFiles(file, self.files.images if there else beside)


def choose_images(given: SplitFiles | None, recipe: dict[str, Any] | None, most: int) -> ProofImages:
    """The data that were given, else the validation set of the run, else the built-in pictures.

    Args:
        given: What the user named.
        recipe: The recipe in the checkpoint, if there is one.
        most: Images at most.
    """
    if given is not None:
        return ProofImages(given, str(given.json), most)
    named = [(recipe or {}).get("data", {}).get(key) for key in ("val_json", "val_images")]
    if all(named):
        files = SplitFiles(*(Path(str(name)) for name in named))
        if files.json.is_file():
            return ProofImages(files, f"{files.json}, the validation set of the run", most)
        return ProofImages(None, f"{DRAWN} built-in pictures, because {files.json} is not there", most)
    return ProofImages(None, f"{DRAWN} built-in pictures, because no data set is known", most)


def calibration_files(proof: ProofImages, recipe: dict[str, Any] | None, most: int) -> list[Path]:
    """Images that ``int8`` is calibrated on: those the run was trained on, else those of the proof.

    Args:
        proof: The pictures of the proof.
        recipe: The recipe in the checkpoint, if there is one.
        most: Images at most, evenly taken from all.

    Returns:
        Image files; none if there are only the built-in pictures.
    """
    named = [(recipe or {}).get("data", {}).get(key) for key in ("train_json", "train_images")]
    files = SplitFiles(*(Path(str(name)) for name in named)) if all(named) else None
    if files is None or not files.json.is_file():
        files = proof.files
    if files is None:
        return []
    content = load_coco(files.json)
    return [content.locate(row, files.images) for row in evenly(len(content.images), most)]


def drawn_pictures() -> list[NDArray[np.uint8]]:
    """The built-in pictures, [H, W, 3] RGB; the same ever again."""
    return [draw_scene(np.random.default_rng((7, number)), _DRAWN_SIZE).image for number in range(DRAWN)]


def some_pictures(
    images: ProofImages, most: int, exif: Literal["apply", "ignore"]
) -> list[NDArray[np.uint8]]:
    """At most ``most`` of the pictures, [H, W, 3] RGB, evenly taken from all."""
    if images.files is None:
        return drawn_pictures()[:most]
    content = load_coco(images.files.json)
    rows = evenly(len(content.images), most)
    return [read_image(content.locate(row, images.files.images), exif) for row in rows]


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of the positions 0 to ``count - 1``, in equal steps."""
    return list(range(count)) if count <= most else [row * count // most for row in range(most)]
