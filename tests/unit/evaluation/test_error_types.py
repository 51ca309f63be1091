"""TIDE's kinds of error, against tidecv 1.0.1 on real data and on scenes with one error each."""

import json

import pytest

from dfine_cli.evaluation.error_types import KINDS, explain_errors
from tests.unit.evaluation.scenes import BOX, CAT, DOG, FAR, match, result, truth

ONE = truth([(1, CAT, BOX, 0)])
TIDECV = {  # without crowds and classes that have no object, the best 100 results of each image: AP50, points, errors
    "gt_val2017_206.json dt_val2017_206_deimv2_femto.json": (
        48.073613547141214,
        [4.249227909644979, 6.752560570787786, 0.8960096666268456, 0.8154058528672081, 3.0993374912511413, 6.272566083590775],
        [2502, 3554, 3492, 1445, 8422, 311],
    ),
    "instances_val2014_100.json instances_val2014_fakebbox100_results.json": (
        69.70827357310577,
        [15.568780448085818, 0.24742454002485204, 0, 0.020599225914494923, 0, 10.558772227502544],
        [74, 1, 0, 1, 0, 106],
    ),
}  # fmt: skip


@pytest.mark.parametrize("files", TIDECV)
def test_numbers_of_tidecv(shared, files):
    gt, results = (json.loads((shared / "data" / "coco_eval" / name).read_text()) for name in files.split())
    gt["annotations"] = [a for a in gt["annotations"] if not a["iscrowd"]]
    classes = {a["category_id"] for a in gt["annotations"]}
    per_image = {}
    for r in sorted(results, key=lambda r: -r["score"]):
        if r["category_id"] in classes:
            per_image.setdefault(r["image_id"], []).append(r)
    errors = explain_errors(match(gt, [r for found in per_image.values() for r in found[:100]]))
    _, points, counts = TIDECV[files]
    assert list(errors.counts.values()) == counts
    # tidecv reads precision at the same recalls, but not with the same rounding.
    assert [100 * lost for lost in errors.lost.values()] == pytest.approx(points, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("classification", result(1, DOG, BOX, 0.9)),
        ("localisation", result(1, CAT, (10, 10, 50, 20), 0.9)),
        ("both", result(1, DOG, (10, 10, 50, 20), 0.9)),
        ("background", result(1, CAT, FAR, 0.9)),
    ],
)
def test_one_error_of_each_kind(kind, found):
    errors = explain_errors(match(ONE, [found]))
    assert [k for k, n in errors.counts.items() if n and k != "missed"] == [kind]
    repairable = kind in ("classification", "localisation")
    assert errors.counts["missed"] == (0 if repairable else 1)
    assert errors.lost[kind] == pytest.approx(1 if repairable else 0)


def test_a_second_detection_of_an_object_is_a_duplicate():
    gt = truth([(1, CAT, BOX, 0), (1, CAT, FAR, 0)])
    found = [result(1, CAT, BOX, 0.9), result(1, CAT, BOX, 0.8), result(1, CAT, FAR, 0.7)]
    errors = explain_errors(match(gt, found))
    assert errors.counts["duplicate"] == 1 and errors.lost["duplicate"] > 0
    assert errors.lost["missed"] == errors.lost["background"] == 0


def test_of_two_repairs_of_an_object_one_counts():
    found = [result(1, DOG, BOX, 0.9), result(1, DOG, (10, 10, 50, 48), 0.8)]
    errors = explain_errors(match(ONE, found))
    assert errors.counts["classification"] == 2 and errors.lost["classification"] == pytest.approx(1)


def test_detections_on_crowds_are_no_errors():
    gt = truth([(1, CAT, BOX, 0), (1, CAT, (100, 100, 80, 80), 1)])
    errors = explain_errors(match(gt, [result(1, CAT, BOX, 0.9), result(1, CAT, (110, 110, 30, 30), 0.95)]))
    assert sum(errors.counts.values()) == 0 and list(errors.lost) == list(KINDS)


def test_without_objects_nothing_is_lost():
    errors = explain_errors(match(truth([]), [result(1, CAT, BOX, 0.9)]))
    assert set(errors.lost.values()) == {-1} and errors.counts["background"] == 1
