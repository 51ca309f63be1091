"""Mistakes put into good labels are found."""

import copy

from dfine_cli.evaluation.error_types import explain_errors
from dfine_cli.evaluation.label_errors import find_label_errors
from tests.unit.evaluation.scenes import BOX, CAT, DOG, FAR, match, result, truth

GOOD = truth([(1, CAT, BOX, 0), (1, DOG, FAR, 0), (2, CAT, (0, 0, 100, 100), 0)], images=(1, 2))
FOUND = [
    result(1, CAT, BOX, 0.9),
    result(1, DOG, FAR, 0.8),
    result(2, CAT, (0, 0, 100, 100), 0.95),
    result(2, DOG, (120, 0, 20, 20), 0.2),
]


def suspects(content, found=FOUND):
    matching = match(content, found)
    return [s._asdict() for s in find_label_errors(matching, explain_errors(matching), 0.5)]


def test_good_labels_are_not_suspected():
    assert suspects(GOOD) == []


def test_a_forgotten_object():
    bad = copy.deepcopy(GOOD)
    del bad["annotations"][1]
    (found,) = suspects(bad)
    assert (found["kind"], found["image"], found["label"], found["found"]) == ("no label", 0, "", "dog")
    assert found["suspicion"] == 0.8 and found["box_xywh"] == FAR and found["annotations"] == ()


def test_a_wrong_class():
    bad = copy.deepcopy(GOOD)
    bad["annotations"][0]["category_id"] = DOG
    (found,) = suspects(bad)
    assert (found["kind"], found["label"], found["found"]) == ("other class", "dog", "cat")
    assert found["annotations"] == (101,)


def test_an_object_that_is_not_there():
    bad = copy.deepcopy(GOOD)
    bad["annotations"].append({**GOOD["annotations"][2], "id": 7, "image_id": 1, "bbox": [90, 0, 100, 100]})
    (found,) = suspects(bad)
    assert (found["kind"], found["label"], found["found"], found["annotations"]) == (
        "not found",
        "cat",
        "",
        (7,),
    )


def test_a_small_object_is_no_surprise():
    bad = copy.deepcopy(GOOD)
    bad["annotations"].append({**GOOD["annotations"][2], "id": 7, "bbox": [150, 150, 8, 8], "area": 64})
    assert suspects(bad) == []


def test_an_object_with_two_labels():
    bad = copy.deepcopy(GOOD)
    bad["annotations"].append({**GOOD["annotations"][0], "id": 7, "category_id": DOG})
    kinds = {s["kind"]: s for s in suspects(bad)}
    assert set(kinds) == {"two labels"}
    assert (kinds["two labels"]["label"], kinds["two labels"]["found"]) == ("cat", "dog")
    assert kinds["two labels"]["annotations"] == (101, 7)


def test_nothing_is_suspected_on_crowds():
    crowd = copy.deepcopy(GOOD)
    crowd["annotations"].append({**GOOD["annotations"][2], "id": 7, "bbox": [100, 0, 100, 100], "iscrowd": 1})
    assert suspects(crowd, [*FOUND, result(2, DOG, (120, 20, 30, 30), 0.9)]) == []
