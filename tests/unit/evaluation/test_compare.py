"""Differences of two sets of results, and whether the interval says what it should."""

import copy

import numpy as np
import pytest

from dfine_cli.evaluation.average_precision import UNDEFINED
from dfine_cli.evaluation.coco_eval import evaluate, score
from dfine_cli.evaluation.compare import compare, weighted_ap
from dfine_cli.evaluation.per_image import count_per_image
from tests.unit.evaluation.reference import random_problem
from tests.unit.evaluation.scenes import CAT, DOG, crowd_of_images, match, noisy, result, truth


def compared(content, before, after, **options):
    pair = match(content, before), match(content, after)
    return compare(*pair, tuple(count_per_image(m, 0.5) for m in pair), **options)


@pytest.mark.parametrize("seed", range(8))
def test_every_image_once_is_the_ap(seed):
    content, found = random_problem(seed)
    matching = match(content, found)
    ap = weighted_ap(matching, np.ones((len(content["images"]), 1), np.int32))[:, 0]
    expected = [c.ap if c.ap != UNDEFINED else np.nan for c in score(matching).classes]
    assert ap == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_weights_are_copies_of_images():
    content = crowd_of_images(6)
    found = noisy(content, 3, extra=30)
    weights = np.array([2, 0, 1, 3, 0, 1])
    copies, results = {**content, "images": [], "annotations": []}, []
    for image in np.repeat(np.arange(6), weights).tolist():
        new = {"image_id": len(copies["images"])}
        copies["images"].append({"id": new["image_id"]})
        copies["annotations"] += [{**a, **new} for a in content["annotations"] if a["image_id"] == image]
        results += [{**r, **new} for r in found if r["image_id"] == image]
    ap = weighted_ap(match(content, found), weights[:, None].astype(np.int32))[:, 0]
    assert ap == pytest.approx([c.ap for c in evaluate(copies, results).classes], abs=1e-12)


def test_draws_in_steps_are_the_same(monkeypatch):
    content = crowd_of_images()
    a, b = noisy(content, 1), noisy(content, 2)
    whole = compared(content, a, b, resamples=50)
    monkeypatch.setattr("dfine_cli.evaluation.compare._CHUNK", 100)
    assert compared(content, a, b, resamples=50) == whole


def test_a_clear_gain_is_better_and_the_reverse_is_worse():
    content = crowd_of_images(40)
    poor, good = noisy(content, 1, shift=9, misses=0.4), noisy(content, 1, shift=2, misses=0.05)
    gain, loss = compared(content, poor, good).ap, compared(content, good, poor).ap
    assert gain.verdict == "better" and loss.verdict == "worse"
    assert gain.low <= gain.change <= gain.high
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))
    assert gain.after == pytest.approx(evaluate(content, good).ap)


def test_the_same_results_are_no_gain():
    content = crowd_of_images()
    found = noisy(content, 1)
    result = compared(content, found, copy.deepcopy(found))
    assert (result.ap.change, result.ap.low, result.ap.high) == (0, 0, 0)
    assert result.ap.verdict == "unclear" and result.images == ()


def test_equally_good_detectors_are_rarely_told_apart():
    content = crowd_of_images(40)
    verdicts = [
        compared(content, noisy(content, 2 * s), noisy(content, 2 * s + 1), resamples=200).ap.verdict
        for s in range(10)
    ]
    assert verdicts.count("unclear") >= 7


def test_images_that_changed_most_come_first():
    content = crowd_of_images(6)
    found = noisy(content, 1, misses=0, extra=0, shift=0)
    worse = [r for r in found if r["image_id"] != 2] + [r for r in found if r["image_id"] == 2][:1]
    result = compared(content, [{**r, "score": 0.9} for r in found], [{**r, "score": 0.9} for r in worse])
    (changed,) = result.images
    assert (changed.image, changed.before) == (2, 0) and changed.after > 0


def test_nothing_to_compare():
    empty = truth([], images=(), categories=())
    assert compared(empty, [], []).ap.before == UNDEFINED
    result = compared(truth([]), [], [])
    assert (result.ap.before, result.classes) == (UNDEFINED, ())
    one = truth([(1, CAT, (0, 0, 9, 9), 0)])
    assert [c.name for c in compared(one, [], []).classes] == ["cat"]


def test_a_class_on_few_images_is_not_judged():
    """A single image that changed is drawn again and again: its interval leaves 0 out, but says nothing."""
    rows = [(i, CAT, (10.0, 10.0, 50.0, 50.0), 0) for i in range(10)] + [
        (0, DOG, (100.0, 100.0, 50.0, 50.0), 0)
    ]
    content = truth(rows, images=range(10))
    found = [result(a["image_id"], a["category_id"], a["bbox"], 0.9) for a in content["annotations"]]
    cat, dog = compared(content, [], found).classes
    assert (cat.images, cat.verdict) == (10, "better")
    assert (dog.images, dog.verdict) == (1, "too few") and dog.low == pytest.approx(1)
