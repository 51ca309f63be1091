"""Padding as an attribute: where it is exact, and only there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import helper

from dfine_cli.export.padding import fold_padding
from tests.unit.export.graphs import make, node, run

PADDED = np.array([0, 0, 0, 0, 0, 0, 1, 1])


def graph(first, *, amounts=PADDED, value=0.0, mode="constant"):
    """An activation, padding, and a pooling and a convolution of what is padded."""
    readers = [
        node("MaxPool", "padded", "pooled", kernel_shape=[2, 2]),
        node("Conv", "padded kernel", "convolved", kernel_shape=[2, 2], pads=[0, 0, 0, 0]),
    ]
    return make(
        [first, node("Pad", "x amounts value", "padded", mode=mode), *readers],
        {"input": [1, 2, 4, 5]},
        {"pooled": [1, 2, 4, 5], "convolved": [1, 2, 4, 5]},
        {
            "amounts": amounts,
            "value": np.float32(value),
            "low": np.float32(-0.5),
            "zero": np.float32(0),
            "kernel": np.random.default_rng(0).normal(size=(2, 2, 2, 2)).astype(np.float32),
        },
    )


@pytest.mark.parametrize(
    ("first", "changes", "left"),
    [
        (node("Relu", "input", "x"), {}, 0),
        (node("Clip", "input zero", "x"), {}, 0),
        (
            node("Clip", "input low", "x"),
            {},
            1,
        ),  # zeros compete in the pooling; the convolution pads by itself
        (helper.make_node("Neg", ["input"], ["x"]), {}, 1),
        (node("Relu", "input", "x"), {"value": 1.0}, 1),
        (node("Relu", "input", "x"), {"mode": "edge"}, 1),
        (node("Relu", "input", "x"), {"amounts": np.array([0, 1, 0, 0, 0, -1, 1, 1])}, 1),
    ],
)
def test_the_graph_computes_the_same(first, changes, left):
    model = graph(first, **changes)
    image = np.random.default_rng(1).normal(size=(1, 2, 4, 5)).astype(np.float32)
    right = run(model, input=image)
    fold_padding(model)
    assert {tensor.name for tensor in model.graph.initializer} <= {
        n for e in model.graph.node for n in e.input
    }
    assert Counter(entry.op_type for entry in model.graph.node)["Pad"] == left
    for ours, theirs in zip(run(model, input=image), right, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
