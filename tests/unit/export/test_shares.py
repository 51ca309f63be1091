"""Shares of types, against a recount that knows the graph."""

from collections import Counter

import numpy as np
import onnx
import pytest

from dfine_cli.export.graph import tidy
from dfine_cli.export.shares import count_types
from tests.unit.export.graphs import FLOAT, HALF, float_casts, make, node

NAMES = {FLOAT: "fp32", HALF: "fp16"}


def test_shares_are_those_of_a_recount(half):
    inferred = onnx.shape_inference.infer_shapes(half.model, strict_mode=True).graph
    kinds = {
        value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)
    }
    made = [
        NAMES[kinds[n.output[0]]]
        for n in inferred.node
        if n.op_type != "Cast" and kinds[n.output[0]] in NAMES
    ]
    found = count_types(half.model)
    assert found["counts"]["nodes"] == Counter(made)
    assert found["counts"]["weights"] == {
        name: sum(np.prod(t.dims, dtype=int) for t in inferred.initializer if t.data_type == kind)
        for kind, name in NAMES.items()
    }
    assert found["casts"] == len(float_casts(half.model))
    for shares, counts in ((found["nodes"], "nodes"), (found["weights"], "weights")):
        assert sum(shares.values()) == pytest.approx(1)
        total = sum(found["counts"][counts].values())
        assert shares["fp16"] == pytest.approx(found["counts"][counts]["fp16"] / total)


def test_half_of_most_weights_and_nodes(half):
    found = count_types(half.model)
    assert found["weights"]["fp16"] > 0.95
    assert found["nodes"]["fp16"] > 0.5


def test_a_graph_in_single_precision_is_all_single(half):
    found = count_types(half.single)
    assert found["nodes"] == found["weights"] == {"fp32": 1.0}
    assert found["casts"] == 0


def test_nodes_and_weights_are_counted_by_what_they_are():
    model = make(
        [node("MatMul", "x w", "a"), node("Cast", "a", "h", to=HALF), node("Add", "h b", "c"), node("Cast", "c", "y", to=FLOAT)],
        {"x": [2, 4]}, {"y": [2, 4]}, {"w": np.eye(4, dtype=np.float32), "b": np.zeros(4, np.float16)},
    )  # fmt: skip
    found = count_types(tidy(model))
    assert found["counts"] == {"nodes": {"fp32": 1, "fp16": 1}, "weights": {"fp32": 16, "fp16": 4}}
    assert found["casts"] == 2
