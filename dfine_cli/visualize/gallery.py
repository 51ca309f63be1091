"""A gallery without a server: a page that filters images and boxes by class, score and outcome."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dfine_cli import __version__
from dfine_cli.errors import DfineError
from dfine_cli.visualize.draw import class_colour
from dfine_cli.visualize.outcomes import scale_to
from dfine_cli.visualize.pictures import write_picture
from dfine_cli.visualize.report_page import page_template
from dfine_cli.visualize.source import Shown
from dfine_cli.whole_file import write_whole

SIDE = 800
"""Longer side of the pictures in pixels; smaller images stay as they are."""
LEAST_SCORE = 0.05
"""Fainter detections are left out of the page."""
FOLDER = "pictures"


def write_gallery(
    shown: Shown,
    out: Path,
    name: str,
    threshold: float,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, int]:
    """Write ``index.html`` with the boxes inside, and a folder of pictures beside it.

    An earlier gallery in the folder is replaced; other files stay.

    Args:
        shown: Images with detections.
        out: The folder.
        name: The model or results file, for the head of the page.
        threshold: Score at which the page opens.
        on_progress: Told how many of how many images are done.

    Returns:
        The page, and how many images could not be read.

    Raises:
        DfineError: It cannot be written.
    """
    truth = shown.matching.truth
    try:
        if (out / FOLDER).is_dir() and (out / "index.html").is_file():
            shutil.rmtree(out / FOLDER)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DfineError(f"{out}: {error.strerror or error}", "choose another place with --out") from error
    entries = []
    for image in range(len(shown.names)):
        picture = shown.images.read(image)
        if picture is not None:
            source = f"{FOLDER}/{image:06d}.jpg"
            height, width = picture.shape[:2]
            write_picture(out / source, scale_to(picture, min(SIDE, max(height, width)))[0])
            entries.append(
                {"src": source, "name": shown.names[image], "w": width, "h": height, **_boxes(shown, image)}
            )
        if on_progress:
            on_progress(image + 1, len(shown.names))
    page = page_template("gallery.html").render(
        version=__version__,
        name=name,
        judged=shown.judged,
        threshold=round(threshold, 2),
        data={
            "classes": list(truth.names),
            "colours": ["#{:02x}{:02x}{:02x}".format(*class_colour(k)) for k in shown.drawn_as()[0].tolist()],
            "judged": shown.judged,
            "images": entries,
        },
    )
    write_whole(out / "index.html", page.encode(), "--out")
    return out / "index.html", len(shown.names) - len(entries)


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
