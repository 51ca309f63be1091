"""The data checks: each problem is found once, counted, and comes with a fix."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import load_coco
from dfine_cli.data.doctor import Finding, Report, check
from dfine_cli.errors import CheckError, ExitCode

MakeCoco = Callable[..., Path]


def examine(*paths: Path, num_queries: int = 300, **options: Any) -> Report:
    """The report on files whose images are in a folder of the same name; the first is ``train``."""
    files = [load_coco(path) for path in paths]
    splits = {
        name: (file, file.path.with_suffix(""))
        for name, file in zip(("train", "val", "test"), files, strict=False)
    }
    class_map = ClassMap.build(files[0].categories, "auto")
    return check(splits, class_map, num_queries=num_queries, **options)


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, [str(finding) for finding in report.findings]
    return report.findings[0]


def box(i: int = 1, **changes: Any) -> dict[str, Any]:
    return {"id": i, "image_id": i, "category_id": 1, "bbox": [5, 6, 10, 8], "iscrowd": 0} | changes


def image(i: int, **changes: Any) -> dict[str, Any]:
    return {"id": i, "file_name": f"{i - 1}.png", "width": 40, "height": 30} | changes


def boxes_and(*more: dict[str, Any]) -> list[dict[str, Any]]:
    """A good box in each of the three images, and others."""
    return [*(box(i) for i in (1, 2, 3)), *more]


def test_good_data_has_no_findings(make_coco: MakeCoco) -> None:
    report = examine(make_coco("train"), make_coco("val"))
    assert report.findings == ()
    report.raise_for_errors()


@pytest.mark.parametrize("decode", [False, True])
def test_real_data_is_good_and_fast(shared: Path, decode: bool) -> None:
    root = shared / "data/bccd"
    splits = {
        s: (load_coco(root / f"annotations/instances_{s}.json"), root / s) for s in ("train", "val", "test")
    }
    class_map = ClassMap.build(splits["train"][0].categories, "auto")
    start = time.perf_counter()
    report = check(splits, class_map, num_queries=300, decode=decode)
    seconds = time.perf_counter() - start
    assert report.findings == ()
    if not decode:
        assert seconds < 2  # 0.15 s on a quiet machine; decoding everything takes longer than that


def test_missing_images(make_coco: MakeCoco) -> None:
    path = make_coco()
    (path.with_suffix("") / "1.png").unlink()
    finding = only(examine(path))
    assert (finding.severity, finding.code, finding.count) == ("error", "missing_file", 1)
    assert str(finding) == f"train: 1 of 3 images are not in {path.with_suffix('')} (1.png (id 2))"
    assert "file_name" in finding.fix


@pytest.mark.parametrize(("setting", "severity"), [("stop", "error"), ("skip", "warning")])
def test_truncated_images_are_found_without_decoding_all(
    make_coco: MakeCoco, setting: str, severity: str
) -> None:
    path = make_coco()
    picture = path.with_suffix("") / "2.png"
    picture.write_bytes(picture.read_bytes()[:-30])
    finding = only(examine(path, on_bad_image=setting))
    assert (finding.severity, finding.code) == (severity, "unreadable")
    assert finding.examples[0].startswith("2.png: cannot read the image: ")


def test_damage_inside_a_file_is_found_by_decoding(make_coco: MakeCoco) -> None:
    path = make_coco()
    picture = path.with_suffix("") / "0.png"
    data = bytearray(picture.read_bytes())
    data[len(data) // 2] ^= 0xFF
    picture.write_bytes(data)
    assert examine(path).findings == ()
    assert only(examine(path, decode=True)).code == "unreadable"


def test_ids_that_do_not_exist(make_coco: MakeCoco) -> None:
    more = [box(4, image_id=99), box(5, image_id=1, category_id=7), box(6, image_id=2, category_id=0)]
    report = examine(make_coco(annotations=boxes_and(*more)))
    by_code = {finding.code: finding for finding in report.errors}
    assert by_code.keys() == {"unknown_image", "unknown_category"}
    assert by_code["unknown_image"].examples == ("annotation 4",)
    assert by_code["unknown_category"].examples == ("annotation 5 in 0.png", "annotation 6 in 1.png")
    assert "ids 1, 2" in by_code["unknown_category"].message


def test_duplicate_ids(make_coco: MakeCoco) -> None:
    images = [image(1), image(2), image(3), image(3), image(4, file_name="0.png")]
    path = make_coco(images=images, annotations=boxes_and(box(3), box(5, image_id=4)))
    found = {finding.code: (finding.severity, finding.examples) for finding in examine(path).findings}
    assert found["image_id"] == ("error", ("3",))
    assert found["annotation_id"] == ("error", ("3",))
    assert found["file_name"] == ("warning", ("0.png", "2.png"))


@pytest.mark.parametrize("bbox", [None, [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, float("inf"), 4], ["1", 2, 3, 4]])
def test_bbox_that_is_not_four_numbers(make_coco: MakeCoco, bbox: Any) -> None:
    finding = only(examine(make_coco(annotations=boxes_and(box(4, image_id=1, bbox=bbox)))))
    assert (finding.severity, finding.code, finding.examples) == (
        "error",
        "bad_box",
        ("annotation 4 in 0.png",),
    )


@pytest.mark.parametrize(
    ("bbox", "severity", "code"),
    [
        ([5, 5, 0, 9], "warning", "no_area"),
        ([5, 5, 9, -1], "warning", "no_area"),
        ([-3, 5, 9, 9], "warning", "clipped"),
        ([35, 25, 9, 9], "warning", "clipped"),
        ([40, 5, 9, 9], "error", "outside"),
        ([5, -20, 9, 20], "error", "outside"),
    ],
)
def test_degenerate_and_outside_boxes(make_coco: MakeCoco, bbox: Any, severity: str, code: str) -> None:
    good = [box(10 + i, image_id=1 + i % 3) for i in range(12)]  # so that the odd one is an exception
    finding = only(examine(make_coco(annotations=boxes_and(*good, box(4, image_id=1, bbox=bbox)))))
    assert (finding.severity, finding.code, finding.count) == (severity, code, 1)


def test_rounding_over_the_border_is_no_finding(make_coco: MakeCoco) -> None:
    path = make_coco(annotations=boxes_and(box(4, image_id=1, bbox=[-0.6, -0.2, 41, 30.7])))
    assert examine(path).findings == ()


def test_boxes_as_fractions(make_coco: MakeCoco) -> None:
    bboxes = [[0.1, 0.2, 0.5, 0.5], [0, 0, 1, 1], [0.5, 0.5, 0.2, 0.1]]
    finding = only(examine(make_coco(annotations=[box(i + 1, bbox=b) for i, b in enumerate(bboxes)])))
    assert (finding.severity, finding.code, finding.count) == ("error", "fractions", 3)


def test_boxes_as_corners(make_coco: MakeCoco) -> None:
    bboxes = [[10, 10, 30, 25], [20, 5, 39, 29], [1, 1, 4, 4]]
    finding = only(examine(make_coco(annotations=[box(i + 1, bbox=b) for i, b in enumerate(bboxes)])))
    assert (finding.severity, finding.code) == ("error", "corners")
    assert "width = x2 - x1" in finding.fix


def test_sizes_that_contradict_the_file(make_coco: MakeCoco) -> None:
    finding = only(examine(make_coco(images=[image(1), image(2, width=80, height=60), image(3)])))
    assert (finding.severity, finding.code) == ("error", "size")
    assert finding.examples == ("1.png (id 2): 80x60, the file is 40x30",)


def test_sizes_swapped_without_a_rotation_are_plainly_wrong(make_coco: MakeCoco) -> None:
    finding = only(examine(make_coco(images=[image(1, width=30, height=40), image(2), image(3)])))
    assert finding.code == "size"


@pytest.mark.parametrize(("annotated", "setting"), [((40, 30), "ignore"), ((30, 40), "apply")])
def test_sizes_that_need_the_other_exif_setting(
    make_coco: MakeCoco, annotated: tuple[int, int], setting: str
) -> None:
    width, height = annotated
    path = make_coco(images=[image(1, width=width, height=height), image(2), image(3)])
    picture = path.with_suffix("") / "0.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(picture).save(picture, exif=exif)
    assert examine(path, exif=setting).findings == ()
    other = "apply" if setting == "ignore" else "ignore"
    finding = only(examine(path, exif=other))
    assert (finding.severity, finding.code, finding.count) == ("error", "exif_size", 1)
    assert finding.fix == f"set data.exif to {setting}"


def test_sizes_that_are_not_stated(make_coco: MakeCoco) -> None:
    images = [{"id": i, "file_name": f"{i - 1}.png"} for i in (1, 2, 3)]
    good = [box(10 + i, image_id=1) for i in range(12)]
    path = make_coco(images=images, annotations=boxes_and(*good, box(4, image_id=1, bbox=[50, 0, 5, 5])))
    report = examine(path)
    assert [finding.code for finding in report.findings] == ["outside", "no_size"]  # size from the file
    assert report.warnings[0].count == 3


def test_more_objects_than_queries(make_coco: MakeCoco) -> None:
    more = [box(10 + i, image_id=2) for i in range(5)] + [box(99, image_id=1, iscrowd=1)]
    path = make_coco(annotations=boxes_and(*more))
    assert examine(path, num_queries=6).findings == ()
    finding = only(examine(path, num_queries=5))
    assert (finding.severity, finding.code, finding.examples) == ("warning", "queries", ("1.png (id 2)",))
    assert finding.fix.startswith("set model.num_queries to 6 or more")


def test_background_images_are_a_note(make_coco: MakeCoco) -> None:
    finding = only(examine(make_coco(annotations=[box(1)])))
    assert (finding.severity, finding.count) == ("note", 2)
    assert "2 of 3 images have no objects and are kept" in str(finding)


def test_nothing_to_train_on(make_coco: MakeCoco) -> None:
    empty = only(examine(make_coco(images=[], annotations=[])))
    assert (empty.severity, empty.code) == ("error", "no_images")
    report = examine(make_coco(annotations=[box(1, iscrowd=1)]))
    assert [finding.code for finding in report.errors] == ["no_objects"]


def test_the_same_id_with_another_name(make_coco: MakeCoco) -> None:
    swapped = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    finding = only(examine(make_coco("train"), make_coco("val", categories=swapped)))
    assert (finding.severity, finding.code, finding.split) == ("error", "classes", "val")
    assert finding.examples == ("1 'dog'", "2 'cat'")


def test_the_order_of_categories_does_not_matter(make_coco: MakeCoco) -> None:
    turned = [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}]
    assert examine(make_coco("train"), make_coco("val", categories=turned)).findings == ()


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 1, "name": "cat"}],
        [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "cow"}],
    ],
)
def test_a_list_of_classes_that_is_shorter_or_longer(make_coco: MakeCoco, categories: Any) -> None:
    val = make_coco("val", categories=categories, annotations=boxes_and())
    finding = only(examine(make_coco("train"), val))
    assert (finding.severity, finding.code, finding.count) == ("warning", "class_list", 1)


def test_images_in_two_splits(make_coco: MakeCoco) -> None:
    train, val = make_coco("train"), make_coco("val")  # the same names; the same content only after this:
    shutil.copy(train.with_suffix("") / "1.png", val.with_suffix("") / "1.png")
    finding = only(examine(train, val))
    assert (finding.severity, finding.code, finding.split) == ("warning", "leak", "val")
    assert finding.examples == ("1.png",)


def test_progress_is_told(make_coco: MakeCoco) -> None:
    calls: list[tuple[int, int]] = []
    examine(make_coco("train"), make_coco("val"), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 6) for i in range(1, 7)]


def test_one_error_is_a_line_with_its_fix(make_coco: MakeCoco) -> None:
    report = examine(make_coco(annotations=boxes_and(box(4, image_id=99))))
    with pytest.raises(CheckError, match=r"^train: 1 annotations have .*\(annotation 4\)$") as caught:
        report.raise_for_errors()
    assert caught.value.hint == report.errors[0].fix
    assert caught.value.exit_code == ExitCode.CHECK


def test_many_errors_are_counted_not_repeated(make_coco: MakeCoco) -> None:
    lost = [box(100 + i, image_id=99) for i in range(50)]
    path = make_coco(annotations=boxes_and(*lost, box(4, image_id=1, category_id=9)))
    (path.with_suffix("") / "0.png").unlink()
    report = examine(path)
    with pytest.raises(CheckError) as caught:
        report.raise_for_errors()
    lines = caught.value.message.splitlines()
    assert lines[0] == "3 kinds of error in the data"
    assert len(lines) == 7  # a line and a fix for each
    assert "50 annotations have an image_id that no image has (annotation 100, annotation 101," in str(lines)
    assert json.loads(json.dumps(report.to_dict()))["errors"] == 3
