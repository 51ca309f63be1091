"""Make the pictures of the README, and the list of whose photographs they show.

From the folder of the project, with COCO pictures under open licences, a detector of COCO's classes, a video and, for
the edge distributions, a run with a picture of its data:

    python -m examples.pictures.make coco_open femto.onnx bottles.mp4 runs/blood blood.jpg [--input-size 416]
"""

import argparse
import json
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfine_cli.cli.app import main as dfine
from dfine_cli.data.images import read_image
from examples.pictures.fiftyone import picture_of_app
from tests.browser import browse

HERE = Path(__file__).resolve().parent
SHOWN = (62554, 160012, 255165, 423617, 519208, 565778)
"""Ids of the pictures on the contact sheet: photographs under CC BY 2.0 with few objects."""
LICENCE, IN_APP = 4, 24
"""The first pictures that are shown in FiftyOne: this many under CC BY 2.0."""
FRAME = 90
"""Frame of the video that is shown."""
CREDITS = """# Whose pictures these are

`make.py` writes this list with the pictures. Boxes and labels were drawn on all of them; they were made smaller.

| picture | photograph | licence |
|---|---|---|
{rows}
| `video.jpg` | frame of `bottle-detection.mp4`, Intel's [sample videos](https://github.com/intel-iot-devkit/sample-videos) | [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/) |
| `fdr.png`, `bccd.jpg` | [BCCD](https://github.com/Shenggan/BCCD_Dataset), blood cells | MIT |
| `report.jpg` | numbers alone, no photograph | - |
"""


def run(*words: object) -> None:
    """Run ``dfine`` in this process, and stop where it fails."""
    try:
        dfine([str(word) for word in words])
    except SystemExit as stop:
        if stop.code:
            raise


def save(picture: NDArray[np.uint8], name: str, width: int) -> None:
    """Write a JPEG at most ``width`` pixels wide."""
    image = Image.fromarray(picture)
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    image.save(HERE / name, quality=82, optimize=True)


def chosen(content: dict, ids: Collection[int], file: Path) -> Path:
    """An annotation file of some pictures alone."""
    part = {
        key: [x for x in content[key] if x[name] in ids]
        for key, name in (("images", "id"), ("annotations", "image_id"))
    }
    file.write_text(json.dumps({**content, **part}))
    return file


def in_app(content: dict) -> list[int]:
    """Ids of the pictures in FiftyOne."""
    return [image["id"] for image in content["images"] if image["license"] == LICENCE][:IN_APP]


def credits(content: dict) -> str:
    """The list of photographs: COCO keeps their page at Flickr and the licence."""
    licences = {licence["id"]: licence for licence in content["licenses"]}
    shown = {"sheet.jpg": SHOWN, "fiftyone.jpg": in_app(content)}
    rows = []
    for image in (image for image in content["images"] if any(image["id"] in ids for ids in shown.values())):
        pictures = ", ".join(f"`{name}`" for name, ids in shown.items() if image["id"] in ids)
        licence = licences[image["license"]]
        photo = image["flickr_url"].rsplit("/", 1)[1].split("_")[0]
        page = f"[COCO {image['id']}]({image['coco_url']}), [Flickr {photo}](https://www.flickr.com/photo.gne?id={photo})"
        url = licence["url"].replace("\\", "").replace("http:", "https:")
        rows.append(f"| {pictures} | {page} | [{licence['name'].removesuffix(' License')} 2.0]({url}) |")
    return CREDITS.format(rows="\n".join(rows))


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("coco", "detector", "video", "run", "picture"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--input-size", default="640")
    given = parser.parse_args()
    detector, video, trained, picture = (
        path.resolve() for path in (given.detector, given.video, given.run, given.picture)
    )
    os.chdir(given.coco.parent)  # the report names its data as it was given
    coco = Path(given.coco.name)
    annotations = next((coco / "annotations").glob("instances_val*.json"))
    images = coco / annotations.stem.removeprefix("instances_")
    content = json.loads(annotations.read_text())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        size = ("--input-size", given.input_size)
        some = (
            "eval",
            detector,
            chosen(content, SHOWN, work / "shown.json"),
            "--images",
            images,
            *size,
            "--out",
            work / "some.json",
        )
        run(*some, "--sheet", work / "sheet.png")
        save(read_image(work / "sheet.png"), "sheet.jpg", 1400)
        app = chosen(content, in_app(content), work / "app.json")
        picture_of_app(detector, app, images, given.input_size, work, work / "app.png")
        save(read_image(work / "app.png"), "fiftyone.jpg", 1400)
        run(
            "eval",
            detector,
            annotations,
            "--images",
            images,
            *size,
            "--out",
            work / "all.json",
            "--report",
            work / "report.html",
        )
        browse(
            work / "report.html",
            work / "profile",
            f"--screenshot={work / 'report.png'}",
            "--window-size=1200,1180",
        )
        save(read_image(work / "report.png"), "report.jpg", 1200)
        run(
            "visualize",
            detector,
            video,
            "--to",
            "video",
            *size,
            "--threshold",
            0.5,
            "--frames",
            FRAME,
            "--out",
            work / "video.avi",
        )
        capture = cv2.VideoCapture(str(work / "video.avi"))
        capture.set(cv2.CAP_PROP_POS_FRAMES, FRAME - 1)
        save(np.asarray(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB), np.uint8), "video.jpg", 1000)
        run("visualize", trained, picture, "--to", "fdr", "--object", 1, "--out", work / "fdr")
        figure = Image.open(next((work / "fdr").glob("*.png")))
        figure.convert("RGB").save(HERE / "fdr.png", optimize=True)
    (HERE / "ATTRIBUTION.md").write_text(credits(content))


if __name__ == "__main__":
    main()
