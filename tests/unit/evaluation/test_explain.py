"""Thresholds, confusion, calibration, counts per image: small scenes with known answers."""

import numpy as np
import pytest

from dfine_cli.evaluation.calibration import calibrate
from dfine_cli.evaluation.confusion import confusion_matrix
from dfine_cli.evaluation.per_image import count_per_image
from dfine_cli.evaluation.thresholds import GRID, sweep
from tests.unit.evaluation.scenes import BOX, CAT, DOG, FAR, crowd_of_images, match, noisy, result, truth

TWO = truth([(1, CAT, BOX, 0), (1, DOG, FAR, 0)])


def test_precision_and_recall_at_each_threshold():
    found = [result(1, CAT, BOX, 0.8), result(1, DOG, BOX, 0.6), result(1, DOG, FAR, 0.4)]
    swept = sweep(match(TWO, found))
    at = {t: np.flatnonzero(np.isclose(GRID, t))[0] for t in (0, 0.4, 0.5, 0.8, 0.9)}
    precision, recall = swept.curves
    assert [precision[at[t]] for t in (0, 0.4, 0.5, 0.8)] == pytest.approx([2 / 3, 2 / 3, 0.5, 1])
    assert np.isnan(precision[at[0.9]])
    assert [recall[at[t]] for t in (0, 0.4, 0.5, 0.8, 0.9)] == [1, 1, 0.5, 0.5, 0]
    assert swept.curves.f1[at[0.4]] == pytest.approx(0.8)


def test_best_threshold_lies_between_the_scores_it_separates():
    found = [result(1, CAT, BOX, 0.8), result(1, DOG, FAR, 0.6), result(1, DOG, BOX, 0.2)]
    swept = sweep(match(TWO, found))
    assert swept.best == pytest.approx((0.4, 1, 1, 1))
    assert [point.threshold for point in swept.class_best] == pytest.approx([0.4, 0.4])


def test_best_threshold_does_not_cut_through_equal_scores():
    found = [result(1, CAT, BOX, 0.5), result(1, CAT, FAR, 0.5), result(1, DOG, FAR, 0.1)]
    best = sweep(match(TWO, found)).best
    assert best == pytest.approx((0.05, 2 / 3, 1, 0.8))


def test_best_threshold_is_the_best_of_all_scores():
    content = crowd_of_images()
    matching = match(content, noisy(content, 1))
    best = sweep(matching).best
    counted, correct = matching.counted, matching.correct
    f1 = [
        2 * (kept & correct).sum() / ((kept & counted).sum() + len(content["annotations"]))
        for kept in (matching.detections.scores >= s for s in matching.detections.scores)
    ]
    assert best.f1 == pytest.approx(max(f1))
    kept = matching.detections.scores >= best.threshold
    assert best.precision == (kept & correct).sum() / (kept & counted).sum()


def test_without_anything_right_there_is_no_best_threshold():
    swept = sweep(match(TWO, [result(1, CAT, FAR, 0.9)]))
    assert swept.best is None and swept.class_best == (None, None)
    assert sweep(match(truth([]), [])).best is None


def test_confusion_has_every_object_and_every_detection_once():
    gt = truth([(1, CAT, BOX, 0), (1, DOG, FAR, 0), (2, CAT, BOX, 0), (2, DOG, FAR, 1)], images=(1, 2))
    found = [
        result(1, CAT, BOX, 0.9),  # right
        result(1, CAT, FAR, 0.8),  # a dog taken for a cat
        result(1, DOG, BOX, 0.7),  # second detection on the first cat
        result(2, DOG, FAR, 0.9),  # on a crowd
        result(2, DOG, (100, 0, 20, 20), 0.6),  # on nothing
        result(2, CAT, BOX, 0.1),  # below the threshold
    ]
    matrix = confusion_matrix(match(gt, found), 0.5)
    assert matrix.tolist() == [[1, 0, 1], [1, 0, 0], [0, 2, 0]]


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.8])
def test_confusion_agrees_with_counts_per_image(threshold):
    content = crowd_of_images()
    matching = match(content, noisy(content, 2))
    matrix, images = confusion_matrix(matching, threshold), count_per_image(matching, threshold)
    assert matrix.trace() == images.correct.sum()
    assert matrix[:-1].sum() == len(content["annotations"]) == (images.correct + images.missed).sum()
    assert matrix[:, :-1].sum() == (images.correct + images.wrong).sum()


def test_worst_images_have_most_errors():
    gt = truth([(1, CAT, BOX, 0), (2, CAT, BOX, 0), (3, CAT, BOX, 0)], images=(1, 2, 3))
    found = [result(1, CAT, BOX, 0.9), result(2, CAT, FAR, 0.9), result(2, CAT, (0, 0, 9, 9), 0.9)]
    images = count_per_image(match(gt, found), 0.5)
    assert images.errors.tolist() == [0, 3, 1]
    assert images.worst(5) == [1, 2]


def test_scores_that_mean_what_they_say():
    gt = truth([(i, CAT, BOX, 0) for i in range(10)], images=range(10))
    found = [result(i, CAT, BOX if i < 7 else FAR, 0.7) for i in range(10)]
    calibration = calibrate(match(gt, [*found, result(1, CAT, FAR, 0.01)]))
    assert calibration.ece == pytest.approx(0) and calibration.counts.sum() == 10
    sure = calibrate(match(gt, [{**r, "score": 0.9} for r in found]))
    assert (sure.ece, sure.bias) == pytest.approx((0.2, 0.2))
    assert calibrate(match(gt, [{**r, "score": 0.4} for r in found])).bias == pytest.approx(-0.3)


def test_calibration_without_detections_is_undefined():
    assert np.isnan(calibrate(match(TWO, [])).ece)
    assert calibrate(match(TWO, [result(1, CAT, BOX, 1.0)])).counts[-1] == 1
