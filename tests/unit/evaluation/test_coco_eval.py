"""COCO scores: pycocotools' numbers to the last digit, and what happens at the edges."""

import copy
import json

import numpy as np
import pytest

from dfine_cli.errors import DfineError
from dfine_cli.evaluation.average_precision import UNDEFINED
from dfine_cli.evaluation.coco_eval import evaluate

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def truth(boxes, *, images=(1,), categories=(3, 20)):
    """Annotations from (image, category, xywh, crowd) rows."""
    return {
        "images": [{"id": i, "width": 200, "height": 200} for i in images],
        "categories": [{"id": c, "name": f"class {c}"} for c in categories],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": list(b), "area": b[2] * b[3], "iscrowd": crowd}
            for n, (i, c, b, crowd) in enumerate(boxes, start=1)
        ],
    }


def result(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


BOX = (10, 10, 50, 50)
ONE = truth([(1, 3, BOX, 0)])


@pytest.mark.parametrize(
    "file", ["dt_val2017_206_deimv2_femto.json", "instances_val2014_fakebbox100_results.json"]
)
def test_pycocotools_numbers_to_the_last_digit(shared, file):
    folder = shared / "data" / "coco_eval"
    reference = json.loads((folder / "pycocotools_reference.json").read_text())[file]
    scored = evaluate(folder / reference["gt"], json.loads((folder / file).read_text()))
    assert list(scored.numbers) == NAMES
    assert list(scored.numbers.values()) == reference["stats"]


def test_class_rows_average_to_the_whole(shared):
    folder = shared / "data" / "coco_eval"
    gt, dt = folder / "instances_val2014_100.json", folder / "instances_val2014_fakebbox100_results.json"
    scored = evaluate(gt, json.loads(dt.read_text()))
    defined = [c.ap for c in scored.classes if c.ap != UNDEFINED]
    assert np.mean(defined) == pytest.approx(scored.ap, abs=1e-12)
    assert sum(c.boxes for c in scored.classes) == scored.boxes == 839
    assert sum(c.detections for c in scored.classes) == scored.detections == 734
    person = next(c for c in scored.classes if c.name == "person")
    assert (person.category_id, person.images, person.boxes) == (1, 55, 256)


def test_perfect_and_missed():
    assert evaluate(ONE, [result(1, 3, BOX, 0.9)]).ap == pytest.approx(1)
    assert evaluate(ONE, [result(1, 20, BOX, 0.9)]).ap == 0


@pytest.mark.parametrize("nothing", [[], np.zeros((0, 7))])
def test_no_detections_score_zero(nothing):
    scored = evaluate(ONE, nothing)
    assert scored.numbers["AP"] == scored.numbers["AR100"] == 0
    assert scored.numbers["APs"] == UNDEFINED  # the one object is medium
    assert [c.ap for c in scored.classes] == [0, UNDEFINED]
    assert scored.detections == 0


def test_no_ground_truth_is_undefined():
    scored = evaluate(truth([]), [result(1, 3, BOX, 0.9)])
    assert set(scored.numbers.values()) == {UNDEFINED}


def test_nothing_at_all():
    scored = evaluate(truth([], images=(), categories=()), [])
    assert set(scored.numbers.values()) == {UNDEFINED}
    assert scored.classes == ()


def test_a_detection_on_a_crowd_is_neither_right_nor_wrong():
    gt = truth([(1, 3, BOX, 0), (1, 3, (100, 100, 80, 80), 1)])
    found = [result(1, 3, (110, 110, 30, 30), 0.95), result(1, 3, BOX, 0.9)]
    assert evaluate(gt, found).ap == pytest.approx(1)


def test_annotation_id_zero_counts():
    """Handed on as it is, id 0 is taken for a miss by pycocotools."""
    gt = copy.deepcopy(ONE)
    gt["annotations"][0]["id"] = 0
    assert evaluate(gt, [result(1, 3, BOX, 0.9)]).ap == pytest.approx(1)


def test_area_and_iscrowd_may_be_absent():
    gt = copy.deepcopy(ONE)
    del gt["annotations"][0]["area"], gt["annotations"][0]["iscrowd"]
    assert evaluate(gt, [result(1, 3, BOX, 0.9)]).numbers["APm"] == pytest.approx(1)


def test_rows_and_mappings_score_alike():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(5, 60, (12, 4))
    gt = truth([(1 + i % 2, (3, 20)[i % 3 % 2], b, 0) for i, b in enumerate(boxes)], images=(1, 2))
    found = [
        result(a["image_id"], a["category_id"], np.array(a["bbox"]) + rng.normal(0, 3, 4), s)
        for a, s in zip(gt["annotations"], rng.random(12), strict=True)
    ]
    rows = np.array([(r["image_id"], *r["bbox"], r["score"], r["category_id"]) for r in found])
    assert evaluate(gt, rows) == evaluate(gt, found)
    assert 0 < evaluate(gt, rows).ap < 1


def test_max_dets_names_and_limits():
    gt = truth([(1, 3, BOX, 0), (1, 3, (100, 100, 50, 50), 0)])
    found = [result(1, 3, BOX, 0.9), result(1, 3, (100, 100, 50, 50), 0.8)]
    scored = evaluate(gt, found, max_dets=(1, 2, 300))
    assert [n for n in scored.numbers if n.startswith("AR")] == ["AR1", "AR2", "AR300", "ARs", "ARm", "ARl"]
    assert (scored.numbers["AR1"], scored.numbers["AR2"]) == pytest.approx((0.5, 1))


def test_inputs_stay_as_they_are_and_stdout_is_silent(capsys):
    gt, found = copy.deepcopy(ONE), [result(1, 3, BOX, 0.9)]
    before = copy.deepcopy((gt, found))
    evaluate(gt, found)
    assert (gt, found) == before
    assert capsys.readouterr() == ("", "")


def test_classes_only_if_asked_for():
    assert evaluate(ONE, [], per_class=False).classes == ()


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([result(99, 3, BOX, 0.5)], "1 image id.* do not have: 99"),  # of another split
        ([result(1, 1, BOX, 0.5)], "1 category id.* do not have: 1"),  # index instead of id
        ([{"image_id": 1, "category_id": 3, "score": 1}], "no 'bbox'"),
        ([result(1, 3, (1, 2, 3), 0.5)], "four numbers"),
        ([result(1, 3, BOX, float("nan"))], "result 0 .*not a finite"),
        ([result(1, 3, ("a", 1, 2, 3), 0.5)], "not COCO results"),
        ({"annotations": []}, "not a list"),  # a ground truth file by mistake
        (np.zeros((3, 6)), r"shape \(3, 6\)"),
    ],
)
def test_wrong_results(results, message):
    with pytest.raises(DfineError, match=message):
        evaluate(ONE, results)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not COCO annotations"),
        ('{"images": []}', "`annotations` is missing"),
        ('{"images": [', "not a JSON file"),
    ],
)
def test_wrong_ground_truth(tmp_path, text, message):
    file = tmp_path / "gt.json"
    file.write_text(text)
    with pytest.raises(DfineError, match=message) as error:
        evaluate(file, [])
    assert str(file) in error.value.message


def test_missing_ground_truth(tmp_path):
    with pytest.raises(DfineError, match=r"gone\.json"):
        evaluate(tmp_path / "gone.json", [])
