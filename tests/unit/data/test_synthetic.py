"""The drawn dataset: tight boxes, visible objects, the same from the same seed."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from dfine_cli.data.synthetic import MIN_VISIBLE, OBJECTS, SCALES, SHAPES, draw_scene, write_dataset


def scene(seed, size=(160, 224)):
    return draw_scene(np.random.default_rng(seed), size)


@pytest.fixture(scope="module")
def scenes():
    return [scene(seed) for seed in range(40)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    return folder, write_dataset(folder, train=6, val=3, size=(96, 128), seed=5)


def test_boxes_are_tight_around_the_visible_pixels(scenes):
    for drawn in (o for s in scenes for o in s.objects):
        x, y, w, h = drawn.box_xywh
        rows, columns = ndimage.find_objects(drawn.mask.astype(int))[0]
        assert (x, y, x + w, y + h) == (columns.start, rows.start, columns.stop, rows.stop)


def test_masks_are_where_the_shape_was_painted():
    """Without clutter, texture and noise only the object's pixels differ from a flat background."""
    from dfine_cli.data import synthetic

    rng = np.random.default_rng(3)
    canvas = np.full((128, 128, 3), 100, np.float32)
    for shape in SHAPES:
        cover = synthetic._find_place(rng, shape, np.full((128, 128), -1), [])
        changed = np.abs(synthetic._paint(rng, canvas, cover, shape.hue) - canvas).max(-1) > 1
        assert (changed[cover >= 0.5]).all()
        assert not changed[cover == 0].any()


def test_masks_do_not_overlap_and_stay_visible(scenes):
    for s in scenes:
        assert np.sum([o.mask for o in s.objects], axis=0).max() == 1
        assert OBJECTS[0] - 1 <= len(s.objects) <= OBJECTS[1]
        # an object hidden to its limit still covers this share of the smallest possible shape
        smallest = (SCALES[0] * 160 / 2) ** 2 * MIN_VISIBLE
        assert min(o.mask.sum() for o in s.objects) > smallest


def test_some_objects_overlap(scenes):
    def boxes_touch(a, b):
        return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]

    pairs = [
        boxes_touch(a.box_xywh, b.box_xywh)
        for s in scenes
        for i, a in enumerate(s.objects)
        for b in s.objects[:i]
    ]
    assert 0.05 < np.mean(pairs) < 0.6


def test_objects_are_large_enough_to_learn(scenes):
    sides = np.array([max(o.box_xywh[2:]) for s in scenes for o in s.objects]) / 160
    assert sides.min() > 0.06
    assert sides.max() < SCALES[1] * 1.05
    assert {o.category_id for s in scenes for o in s.objects} == {s.category_id for s in SHAPES}


def test_same_seed_same_scene():
    first, again, other = scene((1, 2)), scene((1, 2)), scene((1, 3))
    assert (first.image == again.image).all()
    assert [o.box_xywh for o in first.objects] == [o.box_xywh for o in again.objects]
    assert (first.image != other.image).any()


def test_files_are_coco(written):
    folder, (train, val) = written
    assert train == folder / "annotations" / "instances_train.json"
    for file, name, count in ((train, "train", 6), (val, "val", 3)):
        content = json.loads(file.read_text())
        assert len(content["images"]) == count
        assert [c["id"] for c in content["categories"]] == [3, 7, 9, 20, 41]
        assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
        for entry in content["images"]:
            with Image.open(folder / name / entry["file_name"]) as image:
                assert image.format == "JPEG"
                assert image.size == (entry["width"], entry["height"]) == (128, 96)
        for a in content["annotations"]:
            x, y, w, h = a["bbox"]
            assert x >= 0 and y >= 0 and x + w <= 128 and y + h <= 96
            assert 0 < a["area"] <= w * h


def test_train_and_val_show_different_scenes(written):
    folder, _ = written
    first = [np.asarray(Image.open(folder / f"{name}/{name}_00001.jpg")) for name in ("train", "val")]
    assert (first[0] != first[1]).any()


def test_same_seed_same_files(written, tmp_path):
    folder, files = written
    write_dataset(tmp_path, train=2, val=3, size=(96, 128), seed=5)  # fewer of one split change nothing else
    assert (tmp_path / "annotations/instances_val.json").read_text() == files[1].read_text()
    for name in ("train/train_00002.jpg", "val/val_00003.jpg"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
