"""A gallery without a server: a page that filters images and boxes by class, score and outcome."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dfine_cli import __version__
from dfine_cli.errors import DfineError, UsageError
from dfine_cli.visualize.draw import class_colour
from dfine_cli.visualize.outcomes import scale_to
from dfine_cli.visualize.pictures import write_picture
from dfine_cli.visualize.report_page import page_template
from dfine_cli.visualize.source import Shown, require_readable
from dfine_cli.whole_file import write_whole

SIDE = 800
"""Longer side of the pictures in pixels; smaller images stay as they are."""
LEAST_SCORE = 0.05
"""Fainter detections are left out of the page."""
FOLDER = "pictures"
MARK = '<meta name="generator" content="dfine gallery">'
"""In every page of ours, as in ``gallery.html``: pages and pictures of others are not replaced."""


def write_gallery(
    shown: Shown,
    out: Path,
    name: str,
    threshold: float,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, int]:
    """Write ``index.html`` with the boxes inside, and a folder of pictures beside it.

    An earlier gallery in the folder is replaced once the new one is complete; other files stay.

    Args:
        shown: Images with detections.
        out: The folder.
        name: The model or results file, for the head of the page.
        threshold: Score at which the page opens.
        on_progress: Told how many of how many images are done.

    Returns:
        The page, and how many images could not be read.

    Raises:
        UsageError: The folder has a page or pictures of others.
        DfineError: It cannot be written, or no image can be read.
    """
    check_gallery(out)
    part = out / f".{FOLDER}.{os.getpid()}.part"
    try:
        entries = _write_pictures(shown, part, on_progress)
        require_readable(len(entries), len(shown.names))
        page = _page(shown, name, threshold, entries)
        try:
            if (out / FOLDER).exists():
                shutil.rmtree(out / FOLDER)
            part.replace(out / FOLDER)
        except OSError as error:
            raise DfineError(
                f"{out / FOLDER}: {error.strerror or error}", "choose another place with --out"
            ) from error
        write_whole(out / "index.html", page.encode(), "--out")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out / "index.html", len(shown.names) - len(entries)


def check_gallery(out: Path) -> None:
    """Refuse a folder with a page or pictures that are not those of an earlier gallery.

    Raises:
        UsageError: It has.
        DfineError: Its page cannot be read.
    """
    page = out / "index.html"
    try:
        ours = page.is_file() and MARK.encode() in page.read_bytes()
    except OSError as error:
        raise DfineError(f"{page}: {error.strerror or error}", "choose another place with --out") from error
    for place in (page, out / FOLDER):
        if place.exists() and not ours:
            raise UsageError(
                f"{place}: is there already, and not from a gallery of dfine",
                "choose another folder with --out",
            )


def _write_pictures(
    shown: Shown, folder: Path, on_progress: Callable[[int, int], None] | None
) -> list[dict[str, Any]]:
    """Write the pictures of all images that can be read, and give what the page says of each."""
    entries = []
    for image in range(len(shown.names)):
        picture = shown.images.read(image)
        if picture is not None:
            file = f"{image:06d}.jpg"
            height, width = picture.shape[:2]
            write_picture(folder / file, scale_to(picture, min(SIDE, max(height, width)))[0])
            named = {"src": f"{FOLDER}/{file}", "name": shown.names[image], "w": width, "h": height}
            entries.append({**named, **_boxes(shown, image)})
        if on_progress:
            on_progress(image + 1, len(shown.names))
    return entries


def _page(shown: Shown, name: str, threshold: float, entries: list[dict[str, Any]]) -> str:
    return page_template("gallery.html").render(
        version=__version__,
        name=name,
        judged=shown.judged,
        threshold=round(threshold, 2),
        data={
            "classes": list(shown.matching.truth.names),
            "colours": ["#{:02x}{:02x}{:02x}".format(*class_colour(k)) for k in shown.drawn_as()[0].tolist()],
            "judged": shown.judged,
            "images": entries,
        },
    )


def _boxes(shown: Shown, image: int) -> dict[str, Any]:
    """Detections [x, y, w, h, class, score, outcome] and objects [x, y, w, h, class, score of what found it].

    Outcomes are 0 right, 1 wrong, 2 neither, on a crowd or without ground truth. An object that nothing found has
    score 0: it is missed at every threshold above.
    """
    matching, truth, found = shown.matching, shown.matching.truth, shown.matching.detections
    finder = {
        int(matching.found[n]): float(found.scores[n]) for n in shown.of_image(image) if matching.correct[n]
    }
    detections = []
    for n in shown.of_image(image).tolist():
        if found.scores[n] < LEAST_SCORE:
            break
        outcome = 2 if not shown.judged or not matching.counted[n] else 0 if matching.correct[n] else 1
        box = [round(v, 1) for v in found.boxes_xywh[n].tolist()]
        detections.append([*box, int(found.classes[n]), round(float(found.scores[n]), 3), outcome])
    objects = [
        [
            *(round(v, 1) for v in truth.boxes_xywh[g].tolist()),
            int(truth.classes[g]),
            round(finder.get(g, 0.0), 3),
        ]
        for g in np.flatnonzero((truth.images == image) & ~truth.crowd).tolist()
    ]
    return {"found": detections, "truth": objects}
