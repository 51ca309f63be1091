import math
from typing import get_args

import pytest
import torch

from dfine_cli.config.schema import Loss
from dfine_cli.losses.classification import CLASSIFICATION, focal, matchability_aware, varifocal
from dfine_cli.losses.heads import ClassPairs

HEADS, BATCH, QUERIES, CLASSES = 2, 2, 4, 3


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(HEADS, BATCH, QUERIES, CLASSES, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def pairs():
    """Three matched classes per head, with their IoU."""
    positions = torch.tensor([[0, 5, 20], [3, 4, 23]])
    return ClassPairs(positions, torch.tensor([[0.9, 0.0, 0.4], [1.0, 0.5, 0.3]], dtype=torch.float64), 3.0)


def cross_entropy(x, t):
    return -(t * math.log(1 / (1 + math.exp(-x))) + (1 - t) * math.log(1 / (1 + math.exp(x))))


def reference(logits, pairs, loss):
    """Sum over all entries of ``loss(x, matched, iou)``, one by one."""
    totals = []
    for head in range(HEADS):
        matched = dict(zip(pairs.positions[head].tolist(), pairs.ious[head].tolist(), strict=True))
        entries = enumerate(logits[head].flatten().tolist())
        totals.append(sum(loss(x, i in matched, matched.get(i, 0.0)) for i, x in entries) / pairs.norm)
    return torch.tensor(totals, dtype=torch.float64)


def test_varifocal_equals_the_loops(logits, pairs):
    def entry(x, matched, iou):
        p = 1 / (1 + math.exp(-x))
        return (iou if matched else 0.75 * p**2) * cross_entropy(x, iou)

    torch.testing.assert_close(varifocal(logits, pairs, 0.75, 2.0), reference(logits, pairs, entry))


def test_matchability_aware_equals_the_loops(logits, pairs):
    def entry(x, matched, iou):
        p = 1 / (1 + math.exp(-x))
        return (1.0 if matched else 0.5 * p**1.5) * cross_entropy(x, iou**1.5)

    torch.testing.assert_close(matchability_aware(logits, pairs, 0.5, 1.5), reference(logits, pairs, entry))


def test_only_matchability_aware_pushes_down_a_match_beside_its_object(logits):
    """Of IoU 0: the varifocal loss has no gradient there."""
    apart = ClassPairs(torch.tensor([[0], [0]]), torch.zeros(HEADS, 1, dtype=torch.float64), 1.0)
    for loss, pushed in ((varifocal, False), (matchability_aware, True)):
        (gradient,) = torch.autograd.grad(loss(logits, apart, 1.0, 1.5).sum(), logits)
        assert bool((gradient[:, 0, 0, 0] > 0).all()) is pushed


def test_focal_equals_the_loops(logits, pairs):
    def entry(x, matched, iou):
        p = 1 / (1 + math.exp(-x))
        if matched:
            return 0.25 * (1 - p) ** 2 * cross_entropy(x, 1.0)
        return 0.75 * p**2 * cross_entropy(x, 0.0)

    torch.testing.assert_close(focal(logits, pairs, 0.75, 2.0), reference(logits, pairs, entry))


def test_varifocal_weights_have_no_gradient(logits, pairs):
    varifocal(logits, pairs, 0.75, 2.0).sum().backward()
    with torch.no_grad():
        p = logits.sigmoid().flatten(1)
        target = torch.zeros_like(p).scatter_(1, pairs.positions, pairs.ious)
        weight = (0.75 * p**2).scatter_(1, pairs.positions, pairs.ious)
        expected = weight * (p - target) / pairs.norm
    torch.testing.assert_close(logits.grad.flatten(1), expected)


def test_focal_gradient(logits, pairs):
    assert torch.autograd.gradcheck(lambda x: focal(x, pairs, 0.75, 2.0), logits)


@pytest.mark.parametrize("loss", CLASSIFICATION.values(), ids=CLASSIFICATION)
@pytest.mark.parametrize("value", [-200.0, -30.0, 0.0, 30.0, 200.0])
def test_extreme_logits_are_finite(loss, value, pairs):
    pairs = pairs._replace(ious=pairs.ious.float())
    logits = torch.full((HEADS, BATCH, QUERIES, CLASSES), value, requires_grad=True)
    losses = loss(logits, pairs, 0.75, 2.0)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert (losses >= 0).all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", CLASSIFICATION.values(), ids=CLASSIFICATION)
def test_without_pairs_only_negatives_count(loss, logits):
    none = ClassPairs(torch.empty(HEADS, 0, dtype=torch.int64), torch.empty(HEADS, 0).double(), 1.0)
    p = logits.sigmoid()
    expected = (0.75 * p**2 * -(1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(loss(logits, none, 0.75, 2.0), expected)


def test_the_schema_knows_the_table():
    assert set(get_args(Loss.model_fields["classification"].annotation)) == set(CLASSIFICATION)
