"""Damaged and odd data sets: ``dfine init`` names file and entry in two lines and writes nothing."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dfine_cli.data.synthetic import write_dataset

if TYPE_CHECKING:
    from tests.cli.conftest import Run

Content = dict[str, Any]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "data"
    write_dataset(folder, train=4, val=2, size=(64, 64), seed=0)
    return folder


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    """A copy of the data set to spoil."""
    return shutil.copytree(clean, tmp_path / "data set ü")


def annotation(**values: Any) -> Callable[[Content], None]:
    """Set keys of the first annotation."""
    return lambda c: c["annotations"][0].update(values)


def image(**values: Any) -> Callable[[Content], None]:
    return lambda c: c["images"][0].update(values)


def category(name: Any, category_id: Any = 77) -> Callable[[Content], None]:
    return lambda c: c["categories"].append({"id": category_id, "name": name})


def without(key: str) -> Callable[[Content], None]:
    return lambda c: c["annotations"][0].pop(key) and None


def repeat(key: str) -> Callable[[Content], None]:
    return lambda c: c[key].append(dict(c[key][0]))


def renumber(new: int) -> Callable[[Content], None]:
    """Another id for the first image, in its annotations too."""

    def change(content: Content) -> None:
        old = content["images"][0]["id"]
        content["images"][0]["id"] = new
        for a in content["annotations"]:
            a["image_id"] = new if a["image_id"] == old else a["image_id"]

    return change


def refused(run: Run, data: Path, code: int, *told: str) -> None:
    """``init`` must end with ``code``, two lines that hold ``told``, and no new file."""
    before = sorted(data.parent.rglob("*"))
    done = run("init", data)
    assert (done.code, done.out) == (code, ""), done.err
    error, hint = done.err.splitlines()
    assert error.startswith("error: ") and hint.startswith("hint: ") and len(hint) > 10
    assert all(text in error for text in told), error
    assert sorted(data.parent.rglob("*")) == before


FOUR = "bbox that is not four finite numbers (annotation 1 in train_00001.jpg)"
CHANGES = {
    "box NaN": (annotation(bbox=[float("nan"), 1, 2, 3]), FOUR),
    "box infinite": (annotation(bbox=[float("inf"), 1, 2, 3]), FOUR),
    "box too large to add": (annotation(bbox=[1e308] * 4), FOUR),
    "box of 400 digits": (annotation(bbox=[10**400, 1, 2, 3]), FOUR),
    "box of three": (annotation(bbox=[1, 2, 3]), FOUR),
    "box as text": (annotation(bbox=["1", "2", "3", "4"]), FOUR),
    "annotation id as text": (annotation(id="x"), "annotations[0]: `id` = 'x' is not a whole number"),
    "image id as text": (image(id="1"), "images[0]: `id` = '1' is not a whole number"),
    "image id of 70 bits": (image(id=2**70), "images[0]: `id` = 1180591620717411303424 is not"),
    "category id of 70 bits": (annotation(category_id=2**70), "annotations[0] (id 1): `category_id` = 118"),
    "category of 70 bits": (category("u", 2**70), "categories[5]: `id` = 118"),
    "image id as float": (annotation(image_id=1.0), "`image_id` = 1.0 is not a whole number"),
    "no category id": (without("category_id"), "annotations[0] (id 1): key `category_id` is missing"),
    "no id": (without("id"), "annotations[0]: key `id` is missing"),
    "no image id": (without("image_id"), "key `image_id` is missing"),
    "image twice": (repeat("images"), "1 image ids occur more than once (1)"),
    "annotation twice": (repeat("annotations"), "1 annotation ids occur more than once (1)"),
    "category twice": (category("disc"), "name 'disc' occurs more than once"),
    "category without name": (category(" "), "categories: 77 has no name"),
    "category named null": (category(None), "categories[5] (id 77): `name` = None is not a text"),
    "no categories": (lambda c: c["categories"].clear(), "no categories"),
    "no objects": (lambda c: c["annotations"].clear(), "train: no image has an object"),
    "crowd as text": (annotation(iscrowd="maybe"), "`iscrowd` = 'maybe' is not 0 or 1"),
    "file name null": (image(file_name=None), "images[0] (id 1): `file_name` = None is not a text"),
    "file name empty": (image(file_name=""), "1 of 4 images are not in"),
    "file name with a zero": (image(file_name="a\0b.jpg"), "1 of 4 images are not in"),
    "height as text": (image(height="64"), "`height` = '64' is not a whole number"),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_a_bad_entry_is_named(run: Run, data: Path, change: Callable[[Content], None], told: str) -> None:
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    refused(run, data, 4, told)


TEXTS = {
    "cut off": (lambda text: text[:500], "not valid JSON"),
    "cut off near the end": (lambda text: text[:-20], "not valid JSON"),
    "empty": (lambda text: "", "not valid JSON"),
    "a list": (lambda text: "[1]", "the top level is a list"),
    "other keys": (lambda text: '{"a": 1}', "key `images` is missing"),
    "lists as objects": (
        lambda text: text.replace('"images": [', '"images": {}, "x": ['),
        "`images` is a dict",
    ),
    "brackets in brackets": (lambda text: "[" * 100_000, "cannot be read as JSON"),
    "bytes": (lambda text: b"\xff\xfe\xfd\x00\x81" * 99, "not a text file"),
}


@pytest.mark.parametrize("name", ["instances_train.json", "instances_val.json"])
@pytest.mark.parametrize(("change", "told"), TEXTS.values(), ids=TEXTS)
def test_a_damaged_file_is_told_and_not_passed_over(
    run: Run, data: Path, name: str, change: Callable[[str], str | bytes], told: str
) -> None:
    file = data / "annotations" / name
    damaged = change(file.read_text())
    file.write_bytes(damaged.encode() if isinstance(damaged, str) else damaged)
    refused(run, data, 4, name, told)


def test_a_damaged_file_of_the_other_usual_name(run: Run, data: Path) -> None:
    for name in ("train", "val"):
        (data / "annotations" / f"instances_{name}.json").rename(data / name / "_annotations.coco.json")
    (data / "train" / "_annotations.coco.json").write_text("")
    refused(run, data, 4, "train/_annotations.coco.json", "not valid JSON")


SPOILT = {
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "1 of 4 images are not in"),
    "a link to itself": (lambda p: (p.unlink(), p.symlink_to(p.name)), "1 of 4 images are not in"),
    "no bytes": (lambda p: p.write_bytes(b""), "not an image"),
    "a web page": (lambda p: p.write_text("<html>not found</html>"), "not an image"),
    "cut off": (lambda p: p.write_bytes(p.read_bytes()[:300]), "1 images cannot be read"),
}


@pytest.mark.parametrize(("spoil", "told"), SPOILT.values(), ids=SPOILT)
def test_a_file_that_is_no_image_is_named(
    run: Run, data: Path, spoil: Callable[[Path], Any], told: str
) -> None:
    spoil(data / "train" / "train_00001.jpg")
    refused(run, data, 4, told, "train_00001.jpg")


def test_a_missing_folder_of_images_is_told(run: Run, data: Path) -> None:
    shutil.rmtree(data / "train")
    refused(run, data, 2, "its images (train_00001.jpg, …) are in none of")


def test_a_validation_file_without_images_is_refused(run: Run, data: Path) -> None:
    file = data / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "images": [], "annotations": []}))
    refused(run, data, 4, "val: there are no images")
    file.write_text(json.dumps({**content, "annotations": []}))
    refused(run, data, 4, "val: no image has an object")


def test_a_file_that_may_not_be_read_is_named(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = data / "annotations" / "instances_train.json"
    file.chmod(0)
    if os.geteuid() == 0:  # root may read everything: the system's answer is given in its place
        deny(monkeypatch, file)
    refused(run, data, 2, "instances_train.json: Permission denied")


def deny(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Have every way to open ``file`` answer as it would to somebody without permission."""
    real = io.open

    def opened(name: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(name, int) and Path(name) == file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return real(name, *arguments, **options)

    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr("builtins.open", opened)


def crowded(content: Content) -> None:
    first = content["annotations"][0]
    content["annotations"] += [{**first, "id": 100_000 + i} for i in range(5000)]


def test_links_spaces_and_absolute_paths_are_fine(run: Run, data: Path, tmp_path: Path) -> None:
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    linked, moved, renamed = (data / "train" / entry["file_name"] for entry in content["images"][:3])
    linked.symlink_to(linked.rename(tmp_path / "elsewhere.jpg"))
    content["images"][1]["file_name"] = str(moved.rename(tmp_path / "moved here.jpg"))
    content["images"][2]["file_name"] = renamed.rename(renamed.with_name("Übung 画像 #1.jpg")).name
    file.write_text(json.dumps(content))
    place = tmp_path / "link to data"
    place.symlink_to(data)
    assert run("init", place, "--input-size", 64).code == 0
    code, out, err = run("train", "run.yaml", "--dry-run", "--workers", 0, "--device", "cpu")
    assert code == 0 and "step: loss" in out, err


def test_the_folder_of_annotations_stands_for_the_data_set(run: Run, data: Path) -> None:
    assert (
        run("init", data, "--out", "a.yaml").code
        == run("init", data / "annotations", "--out", "b.yaml").code
        == 0
    )
    assert Path("a.yaml").read_text().splitlines()[1:] == Path("b.yaml").read_text().splitlines()[1:]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("init", "data set ü", "--out", "file/run.yaml"), "file/run.yaml"),
        (("train", "run.yaml", "--set", "run.folder=file/runs"), "file/runs"),
        (("train", "run.yaml", "--set", "run.folder=file"), "file"),
        (("demo", "--out", "file"), "file/data"),
    ],
)
def test_a_file_where_a_folder_is_needed_is_told(
    run: Run, data: Path, words: tuple[str, ...], told: str
) -> None:
    assert run("init", data.name, "--input-size", 64).code == 0
    Path("file").write_text("")
    code, out, err = run(*words, *(("--workers", 0) if words[0] == "train" else ()))
    assert (code, out) == (2, ""), err
    error, hint = err.splitlines()[-2:]
    assert error.startswith(f"error: {told}") and error.endswith(": one of its folders is a file")
    assert hint == "hint: give a name in a folder" and Path("file").read_text() == ""


def test_one_image_of_one_class_is_enough_to_train(run: Run, data: Path) -> None:
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    one = content["images"][0]["id"]
    kind = next(a["category_id"] for a in content["annotations"] if a["image_id"] == one)
    content["images"] = content["images"][:1]
    content["categories"] = [c for c in content["categories"] if c["id"] == kind]
    content["annotations"] = [
        a for a in content["annotations"] if (a["image_id"], a["category_id"]) == (one, kind)
    ]
    for name in ("train", "val"):
        (data / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    shutil.copytree(data / "train", data / "val", dirs_exist_ok=True)
    code, _, err = run("init", data, "--input-size", 64)
    assert code == 0, err
    words = ("--epochs", 2, "--workers", 0, "--device", "cpu", "--set", "model.num_denoising=10")
    code, out, err = run("train", "run.yaml", *words, "--json")
    assert code == 0, err
    assert [row["epoch"] for row in json.loads(out)["rows"]] == [1, 2]


FINE = {
    "ids of 62 bits": renumber(2**62),
    "ids below zero": renumber(-5),
    "5,000 boxes in an image": crowded,
    "a box of no area": annotation(bbox=[3, 3, 0, 0]),
    "a name with dots": lambda c: c["images"][0].update(file_name="../train/train_00001.jpg"),
    "backslashes of Windows": lambda c: c["images"][0].update(file_name="..\\train\\train_00001.jpg"),
    "sizes that are not known": image(height=0, width=0),
}


@pytest.mark.parametrize("change", FINE.values(), ids=FINE)
def test_odd_but_meaningful_data_are_taken(run: Run, data: Path, change: Callable[[Content], None]) -> None:
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    code, _, err = run("init", data)
    assert code == 0, err
    assert Path("run.yaml").is_file()
