"""``dfine eval``: numbers, predictions and a sheet of a run; classes that do and do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.cli.conftest import Run

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def changed(trained: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """A copy of the validation annotations after a change, beside links to its images."""

    def make(change: Change) -> Path:
        content = json.loads((trained / "data/annotations/instances_val.json").read_text())
        change(content)
        file = tmp_path / "changed.json"
        file.write_text(json.dumps(content))
        return file

    return make


FAST = ("--workers", 0, "--device", "cpu")


def test_a_run_is_scored_on_its_own_data_with_a_sheet(run: Run, trained: Path) -> None:
    code, out, err = run("eval", trained / "toy", *FAST, "--sheet", "new/sheet.png", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["sheet"] == "new/sheet.png" and said["images"] == 3
    picture = np.asarray(Image.open("new/sheet.png"))
    assert picture.shape[0] > 2 * 320 and picture.std() > 1  # two rows of pairs
    predictions = json.loads(Path(said["predictions"]).read_text())
    assert len(predictions) == said["detections"] == 3 * 20
    # The predictions score the same without the model.
    data = trained / "data/annotations/instances_val.json"
    code, out, err = run("eval", data, "--predictions", said["predictions"], "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"] == said["metrics"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--sheet", "sheet.jpg"), "--sheet sheet.jpg: must be a PNG file"),
        (("--sheet", "sheet.png", "--predictions", "p.json"), "--sheet is for what a model finds"),
    ],
)
def test_a_sheet_that_cannot_be_is_refused_first(
    run: Run, trained: Path, words: tuple[object, ...], told: str
) -> None:
    code, out, err = run("eval", trained / "toy", *FAST, *words)
    assert (code, out) == (2, "") and told in err and len(err.splitlines()) == 2


def test_data_with_fewer_classes_are_scored(
    run: Run, trained: Path, changed: Callable[[Change], Path]
) -> None:
    def keep_two(content: dict[str, Any]) -> None:
        content["categories"] = sorted(content["categories"], key=lambda c: int(c["id"]))[:2]
        kept = {c["id"] for c in content["categories"]}
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] in kept]

    file = changed(keep_two)
    code, out, err = run(
        "eval", trained / "toy", file, "--images", trained / "data/val", *FAST, "--json", "--out", "p.json"
    )
    assert code == 0, err
    said = json.loads(out)
    assert len(said["classes"]) == 2
    written = json.loads(Path("p.json").read_text())
    assert said["detections"] == len(written) < 3 * 20
    # What is left out could not be read again for these data, neither from the file nor from a model.
    words = (file, "--images", trained / "data/val", "--json")
    for other in (
        (*words, "--predictions", "p.json"),
        (trained / "toy", *words, *FAST, "--compare", trained / "toy"),
    ):
        code, out, err = run("eval", *other)
        assert code == 0, err
        assert json.loads(out)["metrics"] == said["metrics"]


@pytest.mark.parametrize(
    ("category", "told"),
    [
        (
            {"id": 99, "name": "moon"},
            "1 of its 6 classes are not those the detector was trained on: 99 'moon'",
        ),
        (None, "'blob' (the detector has 'disc' there)"),
    ],
)
def test_classes_that_the_detector_lacks_are_named(
    run: Run, trained: Path, changed: Callable[[Change], Path], category: dict[str, Any] | None, told: str
) -> None:
    def add(content: dict[str, Any]) -> None:
        if category:
            content["categories"].append(category)
        else:
            next(c for c in content["categories"] if c["name"] == "disc")["name"] = "blob"

    file = changed(add)
    code, out, err = run("eval", trained / "toy", file, "--images", trained / "data/val", *FAST)
    assert (code, out) == (2, "") and told in err and len(err.splitlines()) == 2
    assert not Path("val.json").exists()


def test_damaged_data_are_told_before_the_first_image(
    run: Run, trained: Path, changed: Callable[[Change], Path]
) -> None:
    file = changed(lambda content: content["annotations"][0].update(bbox=[1, 2, 3]))
    code, out, err = run("eval", trained / "toy", file, "--images", trained / "data/val", *FAST)
    assert (code, out) == (4, "") and "not four finite numbers" in err and len(err.splitlines()) == 2


def test_training_data_are_not_scored_as_validation(run: Run, trained: Path, tmp_path: Path) -> None:
    """A folder with nothing but a training split, in the layout of Roboflow."""
    folder = tmp_path / "only" / "train"
    folder.mkdir(parents=True)
    content = json.loads((trained / "data/annotations/instances_val.json").read_text())
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    for image in content["images"]:
        (folder / image["file_name"]).symlink_to(trained / "data" / "val" / image["file_name"])
    code, out, err = run("eval", trained / "toy", folder.parent, *FAST)
    assert (code, out) == (2, "") and "there is only the training split" in err and "--split train" in err
    assert run("eval", trained / "toy", folder.parent, *FAST, "--split", "train").code == 0
