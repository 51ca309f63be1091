"""Finding data sets on disk, splitting and writing them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dfine_cli.data.coco import load_coco
from dfine_cli.data.layout import SplitFiles, find_layout, split_coco, write_json_files
from dfine_cli.errors import CheckError, UsageError

MakeCoco = Callable[..., Path]


@pytest.mark.parametrize(
    ("folder", "json_path"),
    [
        ("train", "annotations/instances_train.json"),
        ("train2017", "annotations/instances_train2017.json"),
        ("images/train", "annotations/instances_train.json"),
        ("images/train2017", "annotations/instances_train2017.json"),
        ("train/images", "annotations/train.json"),
        ("images", "annotations/instances_train.json"),
        ("images/train", "train.json"),
        ("train", "train/_annotations.coco.json"),  # Roboflow
        ("train/images", "train/labels.json"),
    ],
)
def test_train_and_val_are_found(tmp_path: Path, make_coco: MakeCoco, folder: str, json_path: str) -> None:
    val_folder, val_json = folder.replace("train", "val"), json_path.replace("train", "val")
    make_coco(folder, json_path=json_path)
    make_coco(val_folder, json_path=val_json)
    layout = find_layout(tmp_path)
    assert layout.train == SplitFiles(tmp_path / json_path, tmp_path / folder)
    assert layout.val == SplitFiles(tmp_path / val_json, tmp_path / val_folder)
    assert layout.test is None
    assert not layout.single


def test_roboflow_with_valid_and_test(tmp_path: Path, make_coco: MakeCoco) -> None:
    for folder in ("train", "valid", "test"):
        make_coco(folder, json_path=f"{folder}/_annotations.coco.json")
    layout = find_layout(tmp_path)
    assert layout.val == SplitFiles(tmp_path / "valid/_annotations.coco.json", tmp_path / "valid")
    assert list(layout.splits) == ["train", "val", "test"]


def test_the_official_folder_with_its_other_files(tmp_path: Path, make_coco: MakeCoco) -> None:
    for split in ("train2017", "val2017"):
        make_coco(split, json_path=f"annotations/instances_{split}.json")
        for other in ("captions", "person_keypoints"):
            source = tmp_path / f"annotations/instances_{split}.json"
            shutil.copy(source, source.with_name(f"{other}_{split}.json"))
    assert find_layout(tmp_path).train == SplitFiles(
        tmp_path / "annotations/instances_train2017.json", tmp_path / "train2017"
    )


@pytest.mark.parametrize("folder", ["images", "."])
def test_a_single_file_is_training_data(tmp_path: Path, make_coco: MakeCoco, folder: str) -> None:
    path = make_coco(folder, json_path="labels.json")
    (tmp_path / "notes.json").write_text('{"unrelated": 1}')
    for given in (tmp_path, path):
        layout = find_layout(given)
        assert (layout.train, layout.single) == (SplitFiles(path, tmp_path / folder), True)
        assert layout.val is None


def test_a_file_in_annotations_finds_its_images(tmp_path: Path, make_coco: MakeCoco) -> None:
    path = make_coco("val", json_path="annotations/instances_val.json")
    make_coco("train", json_path="annotations/instances_train.json")
    assert find_layout(path).train == SplitFiles(path, tmp_path / "val")


def test_several_candidates_are_listed(tmp_path: Path, make_coco: MakeCoco) -> None:
    make_coco("train", json_path="annotations/train_a.json")
    make_coco("train", json_path="annotations/train_b.json")
    with pytest.raises(UsageError, match=r"several files could be train: .*train_a\.json, .*train_b\.json"):
        find_layout(tmp_path)


def test_several_files_without_a_split_are_listed(tmp_path: Path, make_coco: MakeCoco) -> None:
    make_coco("images", json_path="a.json")
    make_coco("images", json_path="b.json")
    with pytest.raises(UsageError, match=r"several files could be any split: a\.json, b\.json"):
        find_layout(tmp_path)


def test_missing_images_tell_where_was_looked(tmp_path: Path, make_coco: MakeCoco) -> None:
    path = make_coco("train", json_path="annotations/train.json")
    for image in (tmp_path / "train").iterdir():
        image.unlink()
    with pytest.raises(UsageError, match=r"its images \(0\.png, …\) are in none of: ") as caught:
        find_layout(path)
    assert str(tmp_path / "train") in caught.value.message


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no COCO annotation file") as caught:
        find_layout(tmp_path)
    assert "known layouts" in caught.value.hint
    with pytest.raises(UsageError, match="no such file or folder"):
        find_layout(tmp_path / "gone")


def test_a_damaged_file_that_is_the_only_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"images": [{"id"')
    with pytest.raises(CheckError, match=r"labels\.json.*: not valid JSON"):
        load_coco(find_layout(tmp_path).require("train").json)


def test_an_absent_split_is_refused(tmp_path: Path, make_coco: MakeCoco) -> None:
    make_coco("train", json_path="train.json")
    make_coco("val", json_path="val.json")
    layout = find_layout(tmp_path)
    assert layout.require("val").images == tmp_path / "val"
    with pytest.raises(UsageError, match="there is no split `test`; found: train, val"):
        layout.require("test")


@pytest.mark.parametrize(
    ("name", "splits", "images"),
    [
        ("bccd", ["train", "val", "test"], "train"),
        ("coco_open", ["train"], "val2017"),
        ("fruits_odd", ["train"], "images"),
        ("voc100", ["train"], "images"),
    ],
)
def test_real_data(shared: Path, name: str, splits: list[str], images: str) -> None:
    layout = find_layout(shared / "data" / name)
    assert list(layout.splits) == splits
    assert layout.require("train").images == shared / "data" / name / images


def test_a_split_is_complete_and_repeatable(make_coco: MakeCoco) -> None:
    file = load_coco(make_coco(count=20, info={"version": "1"}))
    train, val = split_coco(file, 0.25, seed=3)
    assert (len(train["images"]), len(val["images"])) == (15, 5)
    assert (len(train["annotations"]), len(val["annotations"])) == (15, 5)
    for part in (train, val):
        assert part["info"] == {"version": "1"}
        assert part["categories"] == list(file.categories)
        assert {a["image_id"] for a in part["annotations"]} == {image["id"] for image in part["images"]}
    assert not {i["id"] for i in train["images"]} & {i["id"] for i in val["images"]}
    assert split_coco(file, 0.25, seed=3) == (train, val)
    assert split_coco(file, 0.25, seed=4) != (train, val)


def test_a_split_does_not_depend_on_ids_or_order(make_coco: MakeCoco) -> None:
    path = make_coco(count=20)
    _, val = split_coco(load_coco(path), 0.25, seed=0)
    content = json.loads(path.read_text())
    content["images"] = [image | {"id": 100 - image["id"]} for image in reversed(content["images"])]
    content["annotations"] = []
    path.write_text(json.dumps(content))
    _, again = split_coco(load_coco(path), 0.25, seed=0)
    assert {i["file_name"] for i in again["images"]} == {i["file_name"] for i in val["images"]}


@pytest.mark.parametrize(
    ("count", "share", "val_count"), [(2, 0.0, 1), (2, 1.0, 1), (3, 0.1, 1), (3, 0.9, 2)]
)
def test_no_part_of_a_split_is_empty(make_coco: MakeCoco, count: int, share: float, val_count: int) -> None:
    train, val = split_coco(load_coco(make_coco(count=count)), share, seed=0)
    assert (len(train["images"]), len(val["images"])) == (count - val_count, val_count)


def test_one_image_cannot_be_split(make_coco: MakeCoco) -> None:
    with pytest.raises(UsageError, match="1 image cannot be split"):
        split_coco(load_coco(make_coco(count=1)), 0.5, seed=0)


def test_files_are_written_whole(tmp_path: Path) -> None:
    paths = {tmp_path / "new/train.json": {"a": [1]}, tmp_path / "new/val.json": {"b": "ü"}}
    write_json_files(paths)
    assert {path: json.loads(path.read_text(encoding="utf-8")) for path in paths} == paths
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["train.json", "val.json"]


def test_nothing_is_replaced_when_one_file_fails(tmp_path: Path) -> None:
    old = tmp_path / "train.json"
    old.write_text("old")
    with pytest.raises(TypeError):
        write_json_files({old: {}, tmp_path / "val.json": {"not json": object()}})
    assert old.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["train.json"]
