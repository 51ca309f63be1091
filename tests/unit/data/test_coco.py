"""Annotation files and the samples they give."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoDataset, load_coco
from dfine_cli.data.images import ImageError
from dfine_cli.errors import CheckError, UsageError

MakeCoco = Callable[..., Path]


def open_dataset(json_path: Path, images: Path | None = None, **options: Any) -> CocoDataset:
    file = load_coco(json_path)
    class_map = ClassMap.build(file.categories, "auto")
    return CocoDataset(file, images or json_path.with_suffix(""), class_map, **options)


def box(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0} | changes


def test_columns_of_a_file(make_coco: MakeCoco) -> None:
    file = load_coco(make_coco(annotations=[box(id=5), box(id=4, image_id=3, iscrowd=1), box(image_id=77)]))
    assert [image.file_name for image in file.images] == ["0.png", "1.png", "2.png"]
    assert file.annotations.ids.tolist() == [5, 4, 1]
    assert file.annotations.crowd.tolist() == [False, True, False]
    assert file.image_rows.tolist() == [0, 2, -1]


def test_a_file_without_annotations_is_fine(make_coco: MakeCoco) -> None:
    dataset = open_dataset(make_coco(annotations=[]))
    sample = dataset[2]
    assert (sample.boxes.shape, sample.labels.shape) == ((0, 4), (0,))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: annotation file not found"):
        load_coco(tmp_path / "none.json")
    with pytest.raises(UsageError, match="is a folder"):
        load_coco(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"images": [],\n "annotations": [}', r":2:18: not valid JSON: Expecting value"),
        (b"", r":1:1: not valid JSON"),
        (b'{"images": [{"id": 1, ', r":1:23: not valid JSON"),
        (b"\xff\xd8\xff\xe0 a picture", r"not a text file"),
        (b"[1, 2]", r"the top level is a list, not an object"),
        (b'{"info": {}, "images": []}', r"key `annotations` is missing; there are info, images"),
        (b'{"images": {}, "annotations": [], "categories": []}', r"`images` is a dict, not a list"),
        (b'{"images": [3], "annotations": [], "categories": []}', r"images\[0\] is a int, not an object"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(text)
    with pytest.raises(CheckError, match=r"bad\.json.*" + message) as caught:
        load_coco(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": [{"id": 1}]}, r"images\[0\] \(id 1\): key `file_name` is missing"),
        ({"images": [{"id": "a", "file_name": "x"}]}, r"images\[0\]: `id` = 'a' is not a whole number"),
        ({"images": [{"id": 1, "file_name": None}]}, r"`file_name` = None is not a text"),
        ({"images": [{"id": 1, "file_name": "x", "height": "9"}]}, r"`height` = '9' is not a whole number"),
        ({"annotations": [box(), {"id": 2}]}, r"annotations\[1\] \(id 2\): key `image_id` is missing"),
        ({"annotations": [box(category_id="cat")]}, r"\(id 1\): `category_id` = 'cat' is not a whole number"),
        ({"annotations": [box(image_id=True)]}, r"`image_id` = True is not a whole number"),
        ({"categories": [{"id": 1}]}, r"categories\[0\] \(id 1\): key `name` is missing"),
    ],
)
def test_a_broken_entry_says_where(make_coco: MakeCoco, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckError, match=message):
        load_coco(make_coco(**parts))


@pytest.mark.parametrize("bbox", [None, [1, 2, 3], [1, 2, 3, "4"], "1 2 3 4", [1, 2, 3, float("nan")]])
def test_a_broken_bbox_becomes_nan_and_is_left_out(make_coco: MakeCoco, bbox: Any) -> None:
    path = make_coco(annotations=[box(bbox=bbox), box(id=2)])
    assert np.isnan(load_coco(path).annotations.boxes_xywh[0]).any()
    assert open_dataset(path)[0].boxes.tolist() == [[1, 2, 4, 6]]


def test_a_sample(make_coco: MakeCoco) -> None:
    categories = [{"id": 30, "name": "c"}, {"id": 10, "name": "a"}, {"id": 20, "name": "b"}]
    boxes = [
        box(id=1, image_id=2, category_id=20),
        box(id=2, image_id=1, category_id=30),
        box(id=3, image_id=2, category_id=10, bbox=[0, 0, 9.5, 8]),
        box(id=4, image_id=2, category_id=10, iscrowd=1),
    ]
    dataset = open_dataset(make_coco(annotations=boxes, categories=categories))
    sample = dataset[1]
    assert (sample.image.shape, sample.image.dtype, sample.image_id) == ((30, 40, 3), np.uint8, 2)
    assert sample.boxes.tolist() == [[1, 2, 4, 6], [0, 0, 9.5, 8]]
    assert sample.labels.tolist() == [1, 0]
    assert (sample.boxes.dtype, sample.labels.dtype) == (np.float32, np.int64)
    assert dataset.image_ids.tolist() == [1, 2, 3]


def test_boxes_are_clipped_to_the_image_and_empty_ones_left_out(make_coco: MakeCoco) -> None:
    bboxes = [[-5, -5, 10, 10], [35, 25, 99, 99], [5, 5, 0, 9], [9, 9, -3, 4], [40, 0, 5, 5], [-9, 0, 9, 5]]
    dataset = open_dataset(make_coco(annotations=[box(id=i, bbox=b) for i, b in enumerate(bboxes)]))
    assert dataset[0].boxes.tolist() == [[0, 0, 5, 5], [35, 25, 40, 30]]


def test_sub_folders_and_images_beside_the_json(make_coco: MakeCoco, tmp_path: Path) -> None:
    path = make_coco("set", json_path="set/_annotations.coco.json")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "sub").mkdir(parents=True)
    assert open_dataset(path, elsewhere).image_path(0) == path.parent / "0.png"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "sub/0.png"
    path.write_text(json.dumps(content))
    (path.parent / "0.png").rename(elsewhere / "sub/0.png")
    assert open_dataset(path, elsewhere)[0].image_id == 1


def test_a_category_outside_the_map_is_refused(make_coco: MakeCoco) -> None:
    with pytest.raises(CheckError, match="category id 9 is not a class; known ids: 1, 2"):
        open_dataset(make_coco(annotations=[box(category_id=9)]))


def test_exif_rotation_decides_where_the_border_is(make_coco: MakeCoco) -> None:
    path = make_coco(annotations=[box(bbox=[0, 0, 35, 35])])
    exif = Image.Exif()
    exif[0x0112] = 6
    image_path = path.with_suffix("") / "0.png"
    Image.open(image_path).save(image_path, exif=exif)
    assert open_dataset(path, exif="apply")[0].boxes.tolist() == [[0, 0, 30, 35]]
    assert open_dataset(path, exif="ignore")[0].boxes.tolist() == [[0, 0, 35, 30]]


def test_stop_names_the_bad_image(make_coco: MakeCoco) -> None:
    path = make_coco()
    (path.with_suffix("") / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    dataset = open_dataset(path)
    assert dataset[0].image_id == 1
    with pytest.raises(ImageError, match=r"1\.png"):
        dataset[1]


def test_skip_takes_the_next_readable_image_and_counts(make_coco: MakeCoco) -> None:
    path = make_coco(count=4)
    for name in ("1.png", "3.png"):
        (path.with_suffix("") / name).write_bytes(b"no image")
    dataset = open_dataset(path, on_bad_image="skip")
    assert [dataset[i].image_id for i in (0, 1, 2, 3, 3)] == [1, 3, 3, 1, 1]
    assert dataset.skipped == 2
    assert [open_dataset(path, on_bad_image="skip")[i].image_id for i in (3, 1)] == [1, 3]  # any order


def test_skip_gives_up_when_nothing_is_readable(make_coco: MakeCoco) -> None:
    path = make_coco(count=2)
    for image in path.with_suffix("").iterdir():
        image.unlink()
    with pytest.raises(ImageError, match="none of the 2 images can be read"):
        open_dataset(path, on_bad_image="skip")[0]


def test_indices_end(make_coco: MakeCoco) -> None:
    dataset = open_dataset(make_coco())
    assert [sample.image_id for sample in dataset] == [1, 2, 3]  # iteration needs the IndexError
    assert dataset[-1].image_id == 3


def test_a_copy_for_a_worker_is_small_and_gives_the_same(shared: Path) -> None:
    dataset = open_dataset(shared / "data/bccd/annotations/instances_train.json", shared / "data/bccd/train")
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 100_000  # 2,804 boxes of 24 bytes and 205 names; the dicts would take 300 kB
    one, other = dataset[7], pickle.loads(pickled)[7]
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.image, other.image)


@pytest.mark.parametrize(
    ("json_name", "images", "count", "boxes"),
    [
        ("bccd/annotations/instances_train.json", "bccd/train", 205, 2804),
        ("coco_open/annotations/instances_val2017.json", "coco_open/val2017", 66, None),
        ("fruits_odd/instances.json", "fruits_odd/images", 9, 13),
        ("voc100/annotations/instances_test.json", "voc100/images", 100, 273),
    ],
)
def test_real_data(shared: Path, json_name: str, images: str, count: int, boxes: int | None) -> None:
    content = json.loads((shared / "data" / json_name).read_text())
    if boxes is None:
        boxes = sum(not annotation["iscrowd"] for annotation in content["annotations"])
    dataset = open_dataset(shared / "data" / json_name, shared / "data" / images)
    samples = list(dataset)
    assert (len(samples), sum(len(sample.labels) for sample in samples)) == (count, boxes)
    ids = sorted(category["id"] for category in content["categories"])
    by_image: dict[int, list[int]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            by_image[annotation["image_id"]].append(ids.index(annotation["category_id"]))
    for sample in samples:
        assert sample.labels.tolist() == by_image[sample.image_id]
        height, width = sample.image.shape[:2]
        assert (sample.boxes[:, :2] >= 0).all()
        assert (sample.boxes[:, 2:] <= (width, height)).all()
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
