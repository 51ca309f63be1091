"""The report: its numbers, its pictures, that it needs nothing from outside, and how a browser sees it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from dfine_cli.data.layout import SplitFiles
from dfine_cli.errors import DfineError, UsageError
from dfine_cli.evaluation.analysis_report import Subject
from dfine_cli.evaluation.explain import explain
from dfine_cli.evaluation.label_errors import Suspect
from dfine_cli.evaluation.results import to_columns
from dfine_cli.evaluation.truth import read_truth
from dfine_cli.visualize.outcomes import MISSED, RIGHT, WRONG, draw_outcomes, draw_suspect
from dfine_cli.visualize.report_files import check_target, write_report
from tests.browser import browse
from tests.unit.evaluation.scenes import BOX, CAT, DOG, FAR, crowd_of_images, noisy, result, truth

EVIL = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with comparison and pictures, and what it was made from."""
    folder = tmp_path_factory.mktemp("report")
    content = crowd_of_images()
    content["categories"][0]["name"] = EVIL
    rng = np.random.default_rng(0)
    for image in content["images"][:-1]:  # the last one is not there
        cv2.imwrite(str(folder / image["file_name"]), rng.integers(60, 200, (200, 200, 3), np.uint8))
    known = read_truth(content)
    explained = explain(known, to_columns(noisy(content, 1)), to_columns(noisy(content, 2)))
    subject = Subject("my <model>", folder / "val.json", "other.json")
    written = write_report(folder / "out", subject, explained, SplitFiles(folder / "val.json", folder))
    return subject, explained, written


class Page(HTMLParser):
    """What a page loads, and its structure."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loaded, self.ids, self.links = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.loaded += [found[key] for key in ("src", "srcset", "data", "poster") if key in found]
        self.loaded += [found["href"]] if tag == "link" else []
        self.links += [found["href"][1:]] if tag == "a" else []
        self.ids += [found["id"]] if "id" in found else []


def test_the_page_needs_nothing_from_outside(report):
    text = report[2][0].read_text()
    page = Page(text)
    assert len(page.loaded) > 20 and all(
        address.startswith("data:image/jpeg;base64,") for address in page.loaded
    )
    assert "default-src 'none'" in text
    assert re.search(r"url\(|@import|https?://", re.sub(r'content="[^"]*"', "", text)) is None
    assert set(page.links) <= set(page.ids) and len(page.links) == 8


def test_names_are_text_and_never_code(report):
    text = report[2][0].read_text()
    assert EVIL not in text and "&lt;script&gt;" in text and "my &lt;model&gt;" in text
    assert Page(text).tags.count("script") == 2


def test_page_json_and_markdown_have_the_same_numbers(report):
    _, explained, (html, plain, markdown) = report
    content = json.loads(plain.read_text())
    for text in (html.read_text(), markdown.read_text()):
        assert f"{content['metrics']['AP']:.4f}" in text
        assert f"{100 * content['errors']['localisation']['ap50_lost']:.2f}" in text
        assert f"{content['comparison']['ap']['low']:+.4f}" in text
        assert f"{content['calibration']['ece']:.4f}" in text
    assert content["metrics"]["AP"] == explained.analysis.result.ap


def test_images_that_are_not_there_are_left_out(report, tmp_path):
    subject, explained, (html, *_) = report
    bare = write_report(
        tmp_path / "bare.html", subject, explained, SplitFiles(tmp_path / "v.json", tmp_path / "gone")
    )
    assert "no pictures" in bare[0].read_text() and "<img loading" not in bare[0].read_text()
    assert "no pictures" not in html.read_text()


def test_nothing_found_and_nothing_to_find(tmp_path):
    for name, content, found in (
        ("none", crowd_of_images(3), []),
        ("empty", truth([], images=(), categories=()), []),
        ("unlabelled", truth([]), [result(1, CAT, BOX, 0.5)]),
    ):
        explained = explain(read_truth(content), to_columns(found), to_columns([]))
        files = SplitFiles(tmp_path / "val.json", tmp_path)
        paths = write_report(tmp_path / name, Subject(name, files.json, "other"), explained, files)
        text = paths[0].read_text()
        assert "Where AP is lost" in text and not re.search(
            r"\bnan\b", re.sub(r"base64,[^\"]*", "", text), re.I
        )


def test_targets():
    for good in ("folder", "a/b.html", "c.json", "d.md"):
        check_target(Path(good))
    with pytest.raises(UsageError, match=r"\.txt"):
        check_target(Path("report.txt"))


def test_a_page_that_cannot_be_written_leaves_nothing(report, tmp_path, monkeypatch):
    subject, explained, _ = report
    monkeypatch.setattr(
        Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(DfineError, match="No space left"):
        write_report(tmp_path / "r.md", subject, explained, SplitFiles(tmp_path / "v.json", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_outcomes_have_their_colours():
    gt = truth([(1, CAT, BOX, 0), (1, DOG, FAR, 0)])
    found = [
        result(1, CAT, BOX, 0.9),
        result(1, CAT, (130, 20, 40, 40), 0.9),
        result(1, DOG, (0, 150, 9, 9), 0.1),
    ]
    analysis = explain(read_truth(gt), to_columns(found)).analysis
    drawn = draw_outcomes(np.zeros((200, 200, 3), np.uint8), analysis, 0, 400)
    assert drawn.shape == (400, 400, 3)
    assert tuple(drawn[70, 20]) == RIGHT  # left side of the object that was found
    assert tuple(drawn[80, 260]) == WRONG  # of the detection on nothing
    assert tuple(drawn[245, 240]) == MISSED and not drawn[258, 240].any()  # a dash and a gap
    assert drawn[300:, :20].max() == 0  # below the threshold


@pytest.mark.parametrize("box", [BOX, (0, 0, 200, 200), (190, 190, 30, 30), (900, 900, 10, 10), (5, 5, 0, 0)])
def test_details_of_any_box(box):
    suspect = Suspect("no label", 0, tuple(map(float, box)), "", "cat", 0.9, ())
    assert max(draw_suspect(np.zeros((200, 200, 3), np.uint8), suspect, 120).shape) == 120


def test_a_browser_runs_the_page(report, tmp_path):
    seen = browse(report[2][0], tmp_path, "--dump-dom")
    assert "CONSOLE" not in seen.stderr  # an error of the script would be reported here
    best = report[1].analysis.thresholds.best
    assert f"best F1 {best.f1:.3f} at score {best.threshold:.3f}" in seen.stdout
    options = re.search(r'<select id="curve-class".*?</select>', seen.stdout, re.S)
    assert options and options.group().count("<option") == 3
    curve = re.search(r'<path class="line c1" data-name="precision" d="([^"]*)"', seen.stdout)
    drawn = re.search(r'<path class="line c1" data-name="precision" d="([^"]*)"', report[2][0].read_text())
    assert curve and drawn
    by_script, by_us = (re.findall(r"[\d.]+", found.group(1)) for found in (curve, drawn))
    # The script rounds to thousandths, a quarter of a pixel.
    assert np.abs(np.array(by_script, float) - np.array(by_us, float)).max() < 0.3


def test_a_browser_shows_charts_and_pictures(report, tmp_path):
    shot = tmp_path / "shot.png"
    browse(report[2][0], tmp_path, f"--screenshot={shot}", "--window-size=1200,3000")
    seen = cv2.imread(str(shot))[..., ::-1].astype(int)
    assert seen.shape == (3000, 1200, 3)

    def share(colour):
        return float((np.abs(seen - colour).max(-1) < 12).mean())

    assert share((37, 99, 235)) > 0.001  # bars of lost AP, precision, the diagonal of the confusion matrix
    for colour in (RIGHT, WRONG, MISSED):  # boxes on pictures
        assert share(colour) > 0.0001
    assert share((245, 246, 248)) > 0.02 and share((255, 255, 255)) > 0.2  # paper and cards
