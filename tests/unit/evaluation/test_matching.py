"""The assignment, and what is accumulated from it, against pycocotools."""

import numpy as np
import pytest

from dfine_cli.evaluation.average_precision import accumulate
from dfine_cli.evaluation.coco_eval import evaluate
from dfine_cli.evaluation.matching import NOTHING, find_pairs, match_greedily, match_results
from dfine_cli.evaluation.results import to_columns
from dfine_cli.evaluation.truth import read_truth
from tests.unit.evaluation.reference import pycocotools, random_problem


@pytest.mark.parametrize("seed", range(40))
def test_hard_problems_score_as_pycocotools_says(seed):
    truth, results = random_problem(seed)
    reference = pycocotools(truth, results)
    assert list(evaluate(truth, results).numbers.values()) == reference.stats.tolist()


@pytest.mark.parametrize("max_dets", [(1, 2, 3), (1, 10, 300)])
@pytest.mark.parametrize("seed", range(5))
def test_every_curve_is_that_of_pycocotools(seed, max_dets):
    truth, results = random_problem(seed, images=2, classes=2, objects=40, detections=400)
    reference = pycocotools(truth, results, max_dets).eval
    columns = to_columns(results)
    scores = accumulate(match_results(read_truth(truth), columns, max_dets[-1]), max_dets)
    assert np.array_equal(scores.precision, reference["precision"][..., -1])
    assert np.array_equal(scores.recall, reference["recall"])


def test_all_pairs_are_found_in_any_number_of_steps(monkeypatch):
    truth, results = random_problem(3)
    columns, known = to_columns(results), read_truth(truth)
    images = np.searchsorted(known.image_ids, columns.image_ids)
    whole = find_pairs(columns.boxes_xywh, images, known)
    monkeypatch.setattr("dfine_cli.evaluation.matching._CHUNK", 7)
    stepped = find_pairs(columns.boxes_xywh, images, known)
    assert len(whole.ious) > 100
    for a, b in zip(whole, stepped, strict=True):
        assert np.array_equal(a, b)


def test_a_hundred_thousand_results_for_one_image():
    truth, _ = random_problem(0)
    rng = np.random.default_rng(0)
    boxes = rng.uniform(1, 150, (100_000, 4))
    rows = np.column_stack([np.full(100_000, 1), boxes, rng.random(100_000), rng.choice((7, 17), 100_000)])
    scored = evaluate(truth, rows)
    assert scored.detections == 100_000
    matching = match_results(read_truth(truth), to_columns(rows), 100)
    assert len(matching.detections.scores) == 200
    best = np.sort(rows[rows[:, 6] == 7, 5])[-100:]
    assert np.array_equal(matching.detections.scores[:100], best[::-1])


def test_groups_do_not_compete_and_scores_decide_inside_them():
    from dfine_cli.evaluation.matching import Pairs

    pairs = Pairs(np.array([0, 1, 2]), np.array([0, 0, 1]), np.array([0.9, 0.8, 0.7]))
    common = {"ignored": np.zeros((2, 1), bool), "crowd": np.zeros(2, bool), "ious": np.array([0.5])}
    given = match_greedily(pairs, groups=np.array([0, 0, 1]), **common)
    assert given.objects[:, 0, 0].tolist() == [0, NOTHING, 1]
    by_score = match_greedily(pairs, groups=np.array([0, 0, 1]), scores=np.array([0.1, 0.2, 0.3]), **common)
    assert by_score.objects[:, 0, 0].tolist() == [NOTHING, 0, 1]
