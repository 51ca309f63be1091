"""When two answers to the same images are the same."""

from __future__ import annotations

import numpy as np
import pytest

from dfine_cli.errors import CheckError
from dfine_cli.export.engine_check import Agreement, compare, require

ANSWER = {
    "labels": np.array([[2, 0, 1]]),
    "boxes": np.array([[[10, 10, 60, 60], [100, 20, 180, 90], [0, 0, 5, 5]]], np.float32),
    "scores": np.array([[0.9, 0.6, 0.1]], np.float32),
}


def changed(name, index, value):
    array = ANSWER[name].copy()
    array[index] = value
    return ANSWER | {name: array}


def test_an_answer_agrees_with_itself_in_all_that_is_sure():
    assert compare(ANSWER, ANSWER) == Agreement(compared=2, missed=0, score=0, box=0)


def test_the_order_does_not_matter():
    found = {name: array[:, [1, 2, 0]] for name, array in ANSWER.items()}
    assert compare(ANSWER, found) == Agreement(2, 0, 0, 0)


def test_differences_are_the_largest():
    moved = changed("boxes", (0, 1, 2), 183)
    assert compare(ANSWER, moved).box == 3
    assert compare(ANSWER, changed("scores", (0, 0), 0.85)).score == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(
    "found", [changed("labels", (0, 0), 1), changed("boxes", (0, 0), [300, 300, 400, 400])]
)
def test_another_class_or_place_is_a_miss(found):
    assert compare(ANSWER, found).missed == 1
    with pytest.raises(CheckError, match="1 of 2 detections are missing"):
        require(compare(ANSWER, found), "fp16")


def test_images_without_a_sure_detection_are_compared_by_their_best():
    faint = ANSWER | {"scores": ANSWER["scores"] / 10}
    assert compare(faint, faint).compared == 1


def test_scores_may_differ_as_the_precision_explains():
    found = compare(ANSWER, changed("scores", (0, 0), 0.865))
    require(found, "fp16")
    with pytest.raises(CheckError, match=r"scores differ by up to 0\.035 \(limit 0\.02\)"):
        require(found, "fp32")


def test_scores_that_are_no_numbers_are_refused():
    found = compare(ANSWER, changed("scores", (0, 0), np.nan))
    with pytest.raises(CheckError):
        require(found, "int8")
