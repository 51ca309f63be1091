"""``dfine visualize`` with a real exported detector: pictures, page and video of real images."""

import json
import re
import shutil
from pathlib import Path

import cv2
import pytest

from tests.cli.conftest import Run


@pytest.fixture
def femto(shared: Path) -> tuple[object, ...]:
    """A detector of COCO's classes, and the size it wants."""
    return shared / "weights/deimv2_hgnetv2_femto_coco.onnx", "--input-size", 416


@pytest.fixture
def photos(shared: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((shared / "data/coco_open/val2017").iterdir())[:2]:
        shutil.copy(path, folder)
    return folder


def test_pictures_and_a_page_of_a_folder(
    run: Run, femto: tuple[object, ...], photos: Path, tmp_path: Path
) -> None:
    model, *size = femto
    code, out, err = run("visualize", model, photos, *size, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    content = json.loads(out)
    assert (content["images"], content["unread"], content["threshold"]) == (2, 0, 0.4)
    for path in photos.iterdir():
        plain, drawn = cv2.imread(str(path)), cv2.imread(str(tmp_path / "out" / path.name))
        assert drawn.shape == plain.shape and (cv2.absdiff(plain, drawn) > 60).any(-1).sum() > 200
    assert run("visualize", model, photos, *size, "--to", "html", "--out", tmp_path / "page").code == 0
    text = (tmp_path / "page" / "index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))  # type: ignore[union-attr]
    assert len(data["classes"]) == 80 and sum(box[5] > 0.4 for i in data["images"] for box in i["found"]) > 5


def test_a_video(run: Run, shared: Path, femto: tuple[object, ...], tmp_path: Path) -> None:
    model, *size = femto
    clip = shared / "data/video/bottle-detection.mp4"
    words = (
        "visualize",
        model,
        clip,
        *size,
        "--to",
        "video",
        "--frames",
        4,
        "--out",
        tmp_path / "out.mp4",
        "--json",
    )
    content = json.loads(run(*words).out)
    assert (content["frames"], content["missing"], content["size"]) == (4, 0, [360, 640])
    assert content["fps"] == pytest.approx(29.83, abs=0.01) and content["images_per_s"] > 0
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4


def test_a_detector_of_other_classes_is_not_shown_on_the_data(
    run: Run, femto: tuple[object, ...], dataset: Path
) -> None:
    model, *size = femto
    outcome = run("visualize", model, dataset, *size)
    assert outcome.code == 2 and "not those the detector" in outcome.err and "hint:" in outcome.err
