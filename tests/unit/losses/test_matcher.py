import numpy as np
import pytest
import torch

from dfine_cli.boxes import cxcywh_to_xyxy, giou
from dfine_cli.losses.matcher import Costs, Objects, assign, gather_objects, match, pair_costs, unite
from dfine_cli.types import Target


def one_pair_cost(logit, box, target_box):
    """The cost of one pair as the specification writes it."""
    p = 1 / (1 + np.exp(-logit))
    classification = 0.25 * (1 - p) ** 2 * -np.log(p + 1e-8) - 0.75 * p**2 * -np.log(1 - p + 1e-8)
    l1 = sum(abs(a - b) for a, b in zip(box.tolist(), target_box.tolist(), strict=True))
    overlap = giou(cxcywh_to_xyxy(box), cxcywh_to_xyxy(target_box)).item()
    return 2 * classification + 5 * l1 - 2 * overlap


def stacked(case, counts, **knobs):
    outputs, targets, _ = case(counts, **knobs)
    heads = (*outputs.aux, outputs.final, outputs.pre, *outputs.encoder)
    logits = torch.stack([head.logits for head in heads]).detach()
    boxes = torch.stack([head.boxes for head in heads]).detach()
    return logits, boxes, gather_objects(targets, boxes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_costs_are_those_of_single_pairs(case, dtype):
    logits, boxes, objects = stacked(case, [2, 0, 3], queries=4, dtype=dtype)
    costs = pair_costs(logits, boxes, objects, Costs())
    assert costs.dtype == dtype
    assert costs.shape == (5, 5, 4)
    for n in range(5):
        image, label = objects.images[n], objects.labels[n]
        for head in range(5):
            for query in range(4):
                expected = one_pair_cost(
                    logits[head, image, query, label].item(), boxes[head, image, query], objects.boxes[n]
                )
                # ten float32 operations on numbers around 5
                assert costs[n, head, query].item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_weights_of_the_costs_are_used(case):
    logits, boxes, objects = stacked(case, [2, 3], queries=4)
    parts = [pair_costs(logits, boxes, objects, Costs(*w)) for w in np.eye(3)]
    whole = pair_costs(logits, boxes, objects, Costs(3.0, 0.5, 7.0))
    torch.testing.assert_close(whole, 3 * parts[0] + 0.5 * parts[1] + 7 * parts[2])


def test_assignment_is_the_cheapest_one():
    costs = np.array([[[9.0, 1.0, 2.0]], [[9.0, 2.0, 9.0]], [[3.0, 0.0, 9.0]]])
    rows, objects = assign(costs, [2, 1])
    # image 0: object 0 leaves query 1 to object 1, which has nothing else; image 1 starts at row 3
    assert rows.tolist() == [[1, 2, 4]]
    assert objects.tolist() == [[1, 0, 2]]


def test_more_objects_than_queries_leaves_the_rest_unmatched():
    costs = np.random.default_rng(0).normal(size=(7, 3, 4))
    rows, objects = assign(costs, [6, 0, 1])
    assert rows.shape == (3, 5)
    assert (rows[:, :4] == np.arange(4)).all()
    assert all(len(set(row[:4])) == 4 and set(row[:4]) <= set(range(6)) for row in objects.tolist())
    assert (objects[:, 4] == 6).all()
    assert ((rows[:, 4] >= 8) & (rows[:, 4] < 12)).all()


def test_no_objects_give_no_pairs():
    rows, objects = assign(np.empty((0, 5, 10)), [0, 0])
    assert rows.shape == objects.shape == (5, 0)
    assert [part.size for part in unite(rows, objects)] == [0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite_do_not_stop_the_matching(bad):
    costs = np.random.default_rng(0).normal(size=(3, 2, 5))
    costs[1, 0, 2] = bad
    costs[2, 1] = bad
    rows, objects = assign(costs, [3])
    assert np.sort(objects, 1).tolist() == [[0, 1, 2]] * 2
    # NaN counts as 1, which the other queries undercut; the smallest cost is always taken
    partner = dict(zip(objects[0].tolist(), rows[0].tolist(), strict=True))
    assert (partner[1] == 2) == (bad == -np.inf)


def test_nan_boxes_do_not_stop_the_matching(case):
    logits, boxes, objects = stacked(case, [2, 3])
    boxes[0, 0] = torch.nan
    matching = match(logits, boxes, objects, Costs())
    assert matching.own.rows.shape == (5, 5)


def union_by_loops(rows, objects):
    """The published walk over sorted pairs."""
    votes: dict[tuple[int, int], int] = {}
    for pair in zip(rows.ravel().tolist(), objects.ravel().tolist(), strict=True):
        votes[pair] = votes.get(pair, 0) + 1
    chosen: dict[int, int] = {}
    for pair in sorted(sorted(votes), key=lambda p: -votes[p]):
        chosen.setdefault(*pair)
    return sorted(chosen.items())


@pytest.mark.parametrize("seed", range(20))
def test_union_equals_the_walk_over_pairs(seed):
    rng = np.random.default_rng(seed)
    # few queries and objects, so that queries compete for objects and votes tie
    rows = np.stack([np.sort(rng.choice(8, 6, replace=False)) for _ in range(5)])
    objects = np.stack([rng.permutation(6) for _ in range(5)])
    united = unite(rows, objects)
    assert list(zip(*(part.tolist() for part in united), strict=True)) == union_by_loops(rows, objects)


def test_union_takes_the_most_votes_then_the_first_object():
    rows = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 3]])
    objects = np.array([[2, 1, 0], [2, 0, 1], [1, 0, 2]])
    # query 0: object 2 twice, 1 once; query 1: object 0 twice; query 2: a tie of objects 0 and 1
    assert [part.tolist() for part in unite(rows, objects)] == [[0, 1, 2, 3], [2, 0, 0, 2]]


def test_images_without_objects_and_all_heads_together(case):
    logits, boxes, objects = stacked(case, [0, 3, 0, 2, 0])
    own, union = match(logits, boxes, objects, Costs())
    assert own.rows.dtype == own.objects.dtype == torch.int64
    assert own.rows.shape == (5, 5)
    for rows, matched in zip(own.rows, own.objects, strict=True):
        assert (rows.diff() > 0).all()
        assert sorted(matched.tolist()) == list(range(5))
        assert (rows // 12 == objects.images[matched]).all()
    assert (union.rows.diff() > 0).all()
    pairs = set(zip(own.rows.ravel().tolist(), own.objects.ravel().tolist(), strict=True))
    assert set(zip(union.rows.tolist(), union.objects.tolist(), strict=True)) <= pairs
    assert set(union.rows.tolist()) == set(own.rows.ravel().tolist())


def test_duplicate_objects_go_to_different_queries():
    box = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    target = Target(torch.zeros(3, dtype=torch.int64), box.repeat(3, 1), 0, (32, 32))
    objects = gather_objects([target], box)
    own, _ = match(torch.zeros(2, 1, 6, 1), box.expand(2, 1, 6, 4), objects, Costs())
    assert all(len(set(rows)) == 3 for rows in own.rows.tolist())


def test_objects_are_concatenated_in_order():
    targets = [
        Target(torch.tensor([4, 2]), torch.rand(2, 4), 0, (32, 32)),
        Target(torch.empty(0, dtype=torch.int64), torch.empty(0, 4), 1, (32, 32)),
        Target(torch.tensor([7]), torch.rand(1, 4), 2, (32, 32)),
    ]
    objects = gather_objects(targets, torch.empty(0, dtype=torch.float64))
    assert isinstance(objects, Objects)
    assert objects.labels.tolist() == [4, 2, 7]
    assert objects.images.tolist() == [0, 0, 2]
    assert objects.counts == (2, 0, 1)
    assert objects.boxes.dtype == torch.float64
