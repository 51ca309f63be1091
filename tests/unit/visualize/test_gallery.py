"""Pictures and the gallery, from results files and from detectors, with ground truth and without."""

import json
import re
import time

import cv2
import numpy as np
import pytest

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.layout import SplitFiles
from dfine_cli.errors import CheckError, DfineError, UsageError
from dfine_cli.evaluation.matching import match_results
from dfine_cli.evaluation.results import read_results
from dfine_cli.types import Detections
from dfine_cli.visualize.draw import class_colour
from dfine_cli.visualize.gallery import _boxes, write_gallery
from dfine_cli.visualize.outcomes import MISSED, RIGHT, WRONG
from dfine_cli.visualize.pictures import check_pictures, picture_name, write_pictures
from dfine_cli.visualize.source import best_threshold, show_pictures, show_results
from tests.browser import browse
from tests.unit.evaluation.scenes import BOX, CAT, DOG, FAR, result, truth


@pytest.fixture
def shown(tmp_path):
    """Two images: a cat that is found, a dog that is missed, and a dog where nothing is."""
    content = truth([(1, CAT, BOX, 0), (2, DOG, FAR, 0)], images=(1, 2))
    found = [
        result(1, CAT, BOX, 0.9),
        result(1, DOG, FAR, 0.6),
        result(2, DOG, FAR, 0.2),
        result(2, DOG, BOX, 0.01),
    ]
    (tmp_path / "val.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(found))
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), np.full((200, 200, 3), 90, np.uint8))
    return show_results(tmp_path / "results.json", SplitFiles(tmp_path / "val.json", tmp_path))


class Middle:
    """Finds a dog in the middle of every image."""

    name, input_size, exif, operating_point = "middle", (32, 32), "apply", None
    classes = ClassMap(("cat", "dog"), (CAT, DOG), "auto")

    def detect(self, images, sizes):
        boxes = [np.array([[w / 4, h / 4, w * 3 / 4, h * 3 / 4]], np.float32) for h, w in sizes]
        return [Detections(box, np.array([0.7], np.float32), np.array([1])) for box in boxes]


def test_pictures_have_the_boxes_above_the_threshold(shown, tmp_path):
    written, unread = write_pictures(shown, tmp_path / "out", 0.5)
    assert [p.name for p in written] == ["1.png", "2.png"] and unread == 0
    first, second = (cv2.imread(str(p))[..., ::-1] for p in written)
    assert tuple(first[40, 10]) == RIGHT and tuple(first[140, 120]) == WRONG
    assert tuple(second[122, 120]) == MISSED and tuple(second[129, 120]) == (90, 90, 90)  # a dash and a gap
    write_pictures(shown, tmp_path / "out", np.array([0.5, 0.1]))
    assert tuple(cv2.imread(str(written[1]))[129, 120, ::-1]) == RIGHT
    write_pictures(shown._replace(judged=False), tmp_path / "out", 0.5)
    first, second = (cv2.imread(str(p))[..., ::-1] for p in written)
    assert tuple(first[40, 10]) == class_colour(0) and tuple(first[140, 120]) == class_colour(1)
    assert (second == 90).all()


def test_images_are_never_overwritten(shown, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    images = [tmp_path / "1.png", tmp_path / "2.png"]
    for target in (images[1], tmp_path / "link" / "1.png"):
        with pytest.raises(UsageError, match="is the image itself"):
            check_pictures([tmp_path / "new.png", target], images, overwrite=True)


def test_unreadable_images_are_counted(shown, tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    written, unread = write_pictures(shown, tmp_path / "out", 0.5)
    assert [p.name for p in written] == ["2.png"] and unread == 1
    assert write_gallery(shown, tmp_path / "gallery", "r", 0.5)[1] == 1
    (tmp_path / "2.png").unlink()
    with pytest.raises(DfineError, match="none of the 2 images can be read"):
        write_pictures(shown, tmp_path / "out", 0.5)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("../../etc/b.jpg", "etc/b.jpg"),
        ("/abs/b.JPG", "abs/b.JPG"),
        ("c.webp", "c.webp.jpg"),
        ("sub\\d.png", "sub/d.png"),
        ("7", "7.jpg"),
    ],
)
def test_names_of_pictures_stay_inside_the_folder(name, safe):
    assert picture_name(name) == safe


def test_images_without_ground_truth(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, size in (("a.png", (40, 80)), ("sub/b.jpg", (60, 60))):
        cv2.imwrite(str(tmp_path / name), np.zeros((*size, 3), np.uint8))
    (tmp_path / "c.jpg").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no image")
    found = show_pictures(Middle(), tmp_path, batch=2, workers=0)
    assert found.names == ("a.png", "c.jpg", "sub/b.jpg") and not found.judged
    boxes = {
        int(i): b.tolist()
        for i, b in zip(found.matching.detections.images, found.matching.detections.boxes_xywh, strict=True)
    }
    assert boxes == {0: [20, 10, 40, 20], 2: [15, 15, 30, 30]}
    assert best_threshold(found) == (0.4, "a usual value")
    page, unread = write_gallery(found, tmp_path / "out", "middle", 0.4)
    assert unread == 1 and 'value="1">wrong' not in page.read_text()
    one = show_pictures(Middle(), tmp_path / "a.png", batch=2, workers=0)
    assert one.names == ("a.png",) and len(one.of_image(0)) == 1


def test_a_folder_without_images(tmp_path):
    with pytest.raises(UsageError, match="no images"):
        show_pictures(Middle(), tmp_path, batch=1, workers=0)
    with pytest.raises(UsageError, match="no such file"):
        show_pictures(Middle(), tmp_path / "gone", batch=1, workers=0)


def test_corners_in_a_results_file_are_refused(shown, tmp_path):
    content = truth([(1, CAT, (60, 60, 40, 40), 0)])
    (tmp_path / "val.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps([result(1, CAT, (60, 60, 100, 100), 0.9)]))
    with pytest.raises(CheckError, match="x1, y1, x2, y2"):
        show_results(tmp_path / "results.json", SplitFiles(tmp_path / "val.json", tmp_path))


def test_the_gallery_knows_outcomes(shown, tmp_path):
    page, _ = write_gallery(shown, tmp_path / "out", "<b>model</b>", 0.5)
    text = page.read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))
    first, second = data["images"]
    assert first["found"] == [[10, 10, 50, 50, 0, 0.9, 0], [120, 120, 40, 40, 1, 0.6, 1]]
    assert second["found"] == [[120, 120, 40, 40, 1, 0.2, 0]]  # the faintest is left out
    assert (first["truth"][0][-1], second["truth"][0][-1]) == (0.9, 0.2)
    assert "&lt;b&gt;model" in text and "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert (tmp_path / "out" / first["src"]).is_file()


def test_a_class_keeps_its_colour_on_any_data(shown, tmp_path):
    """The data may have only some of the classes of the model, in another order."""
    known = shown._replace(model_classes=("fox", "dog", "owl", "cat"))
    write_pictures(known._replace(judged=False), tmp_path / "out", 0.5)
    first = cv2.imread(str(tmp_path / "out" / "1.png"))[..., ::-1]
    assert tuple(first[40, 10]) == class_colour(3) and tuple(first[140, 120]) == class_colour(1)
    page, _ = write_gallery(known, tmp_path / "out", "model", 0.5)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.S).group(1))
    assert data["colours"] == ["#{:02x}{:02x}{:02x}".format(*class_colour(k)) for k in (3, 1)]


def test_a_new_gallery_replaces_the_old_one(shown, tmp_path):
    out = tmp_path / "out"
    write_gallery(shown, out, "a", 0.5)
    (out / "pictures" / "999999.jpg").write_text("old")
    (out / "mine.txt").write_text("kept")
    write_gallery(shown, out, "b", 0.5)
    assert len(list((out / "pictures").iterdir())) == 2 and (out / "mine.txt").is_file()
    assert sorted(p.name for p in out.iterdir()) == ["index.html", "mine.txt", "pictures"]


def test_an_old_gallery_stays_until_the_new_one_is_complete(shown, tmp_path):
    out = tmp_path / "out"
    write_gallery(shown, out, "a", 0.5)

    def stop(done, total):
        raise KeyboardInterrupt

    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(KeyboardInterrupt):
        write_gallery(shown, out, "b", 0.5, stop)
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(DfineError, match="none of the 2 images can be read"):
        write_gallery(shown, out, "b", 0.5)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("foreign", [("index.html", "pictures/a.jpg"), ("pictures/a.jpg",), ("index.html",)])
def test_pages_and_pictures_of_others_are_not_replaced(shown, tmp_path, foreign):
    out = tmp_path / "out"
    for name in foreign:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("theirs")
    with pytest.raises(UsageError, match="not from a gallery of dfine"):
        write_gallery(shown, out, "a", 0.5)
    assert sorted(p for p in out.rglob("*") if p.is_file()) == sorted(out / name for name in foreign)


def test_a_gallery_that_cannot_be_written(shown, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DfineError, match="file"):
        write_gallery(shown, tmp_path / "file", "a", 0.5)


@pytest.mark.parametrize(
    ("view", "images", "boxes"),
    [("", 2, 3), ("score=0.15", 2, 3), ("outcome=1", 1, 1), ("outcome=3", 1, 1), ("class=1", 2, 2), ("score=0.95", 2, 2)],
)  # fmt: skip
def test_a_browser_filters_the_gallery(shown, tmp_path, view, images, boxes):
    page, _ = write_gallery(shown, tmp_path / "out", "model", 0.5)
    seen = browse(page, tmp_path / "profile", "--dump-dom", view=view)
    assert "CONSOLE" not in seen.stderr
    assert f"{images} of 2 images, {boxes} boxes" in seen.stdout
    assert seen.stdout.count("<figure>") == images


def test_a_large_gallery_does_not_crawl(tmp_path):
    """2,000 images with 60,000 detections: time to collect them grows with their number, not with its square."""
    content = truth([(i, CAT, BOX, 0) for i in range(2000)], images=range(2000))
    found = [result(i, CAT, (n, n, 50, 50), 0.9 - n / 50) for i in range(2000) for n in range(30)]
    (tmp_path / "val.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(found))
    large = show_results(tmp_path / "results.json", SplitFiles(tmp_path / "val.json", tmp_path))
    started = time.process_time()
    boxes = [_boxes(large, image) for image in range(2000)]
    assert time.process_time() - started < 6  # a smoke alarm: it takes a tenth of that
    assert sum(len(b["found"]) for b in boxes) == 2000 * 30
    assert [box[5] for box in boxes[7]["found"]] == sorted(
        (box[5] for box in boxes[7]["found"]), reverse=True
    )


def test_a_browser_is_quick_with_thousands_of_boxes(tmp_path):
    """One image with 5,000 boxes, and all of them shown."""
    content = truth([(1, CAT, BOX, 0)], images=(1,))
    rng = np.random.default_rng(0)
    found = [result(1, DOG, (*rng.uniform(0, 150, 2), 20, 20), rng.uniform(0.1, 1)) for _ in range(5000)]
    (tmp_path / "val.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(found))
    cv2.imwrite(str(tmp_path / "1.png"), np.full((200, 200, 3), 90, np.uint8))
    many = show_results(tmp_path / "results.json", SplitFiles(tmp_path / "val.json", tmp_path))
    many = many._replace(
        matching=match_results(many.matching.truth, read_results(tmp_path / "results.json"), 5000)
    )
    page, _ = write_gallery(many, tmp_path / "out", "many", 0.05)
    seen = browse(page, tmp_path / "profile", "--dump-dom", "--timeout=20000")
    assert "CONSOLE" not in seen.stderr and "1 of 1 images, 5001 boxes" in seen.stdout
