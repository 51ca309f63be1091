"""Which nodes stay in single precision, found by what they compute."""

import numpy as np
import onnx

from dfine_cli.export.graph import Graph, tidy
from dfine_cli.export.half import to_half
from dfine_cli.export.islands import ISLANDS, find_islands
from tests.unit.export.graphs import FLOAT, HALF, INT64, float_casts, make, node

WEIGHT = np.eye(4, dtype=np.float32)
BINS = np.float32([-1, -0.1, 0.1, 1])


def islands(model):
    return find_islands(Graph(tidy(model)))


def test_a_detector_has_every_island_that_its_graph_calls_for(half):
    always = {"box integral", "quality head", "boxes", "top-k and scores", "sampling coordinates"}
    written_out = {"norms in basic operators"} & set(half.islands)
    assert set(half.islands) == always | written_out
    norms = {n.op_type for n in half.model.graph.node} & {"LayerNormalization", "Sqrt"}
    assert norms == ({"Sqrt"} if written_out else {"LayerNormalization"})


def test_most_of_a_detector_is_half_and_its_weights_are(half):
    weighted = [n for n in half.model.graph.node if n.op_type in {"Conv", "Gemm", "MatMul"}]
    inside = {name for names in half.islands.values() for name in names}
    single = [n for n in weighted if n.output[0] in inside]
    assert len(weighted) > 60
    assert len(single) <= 6  # two layers of the quality head, and the integrals where they are products


def test_softmax_of_attention_is_half_and_that_of_bins_is_single(half):
    graph = Graph(half.model)
    kinds = [graph.types[n.output[0]] for n in graph.nodes if n.op_type == "Softmax"]
    # N: three layers with two attentions each and one in the encoder; one integral a layer, and its like in
    # the quality head of the other exporter
    assert kinds.count(HALF) >= 6
    assert kinds.count(FLOAT) >= 3


def test_every_island_has_a_name_of_its_own_and_a_reason():
    assert len({island.name for island in ISLANDS}) == len(ISLANDS)
    assert all(len(island.reason) > 20 for island in ISLANDS)


def test_what_leads_to_an_index_is_a_coordinate_back_to_the_last_weights():
    model = make(
        [
            node("MatMul", "x w", "offset"), node("Add", "offset bias", "place"), node("Mul", "place width", "column"),
            node("Floor", "column", "left"), node("Cast", "left", "index", to=INT64),
            node("GatherElements", "x index", "picked"),
            node("Sub", "column left", "share"), node("Mul", "picked share", "y"),
        ],
        {"x": [2, 4]},
        {"y": [2, 4]},
        {"w": WEIGHT, "bias": np.zeros(4, np.float32), "width": np.float32(80)},
    )  # fmt: skip
    assert islands(model) == dict.fromkeys(("column", "left", "index", "share"), "sampling coordinates")


def test_an_integral_is_single_as_a_product_and_as_a_sum():
    sums = [node("Mul", "p bins", "m"), onnx.helper.make_node("ReduceSum", ["m", "axes"], ["y"], keepdims=0)]
    for ends, extra in (
        (sums, {"bins": BINS, "axes": np.array([1])}),
        ([node("MatMul", "p bins", "y")], {"bins": BINS}),
    ):
        model = make(
            [node("MatMul", "x w", "logits"), node("Softmax", "logits", "p"), *ends],
            {"x": [2, 4]}, {"y": [2]}, {"w": WEIGHT, **extra},
        )  # fmt: skip
        assert set(islands(model).values()) == {"box integral"}
        assert set(islands(model)) == {"p"} | {name for entry in ends for name in entry.output}


def test_attention_is_no_integral():
    model = make(
        [node("MatMul", "x w", "q"), node("Softmax", "q", "p"), node("MatMul", "p v", "y")],
        {"x": [4, 4], "v": [4, 4]},
        {"y": [4, 4]},
        {"w": WEIGHT},
    )
    assert islands(model) == {}


def test_a_norm_in_basic_operators_is_single():
    one_over = [node("Div", "one root", "inverse"), node("Mul", "a inverse", "n")]
    for ends in (one_over, [node("Div", "a root", "n")]):
        model = make(
            [
                node("MatMul", "x w", "a"), node("Pow", "a two", "square"),
                onnx.helper.make_node("ReduceMean", ["square"], ["mean"], axes=[1]), node("Add", "mean eps", "safe"),
                node("Sqrt", "safe", "root"), *ends, node("Mul", "n scale", "scaled"), node("MatMul", "scaled w", "y"),
            ],
            {"x": [2, 4]}, {"y": [2, 4]},
            {"w": WEIGHT, "two": np.float32(2), "eps": np.float32(1e-6), "one": np.float32(1), "scale": BINS},
        )  # fmt: skip
        inside = {"square", "mean", "safe", "root", "n", "scaled", *(entry.output[0] for entry in ends)}
        assert islands(model) == dict.fromkeys(inside, "norms in basic operators")


def test_a_choice_by_the_largest_of_many_casts_the_largest_only():
    topk = onnx.helper.make_node("TopK", ["best", "k"], ["values", "cells"])
    largest = onnx.helper.make_node("ReduceMax", ["logits"], ["best"], axes=[1], keepdims=0)
    model = make(
        [node("MatMul", "x w", "logits"), largest, topk, node("Gather", "x cells", "y")],
        {"x": [2, 4]}, {"y": [1, 4]}, {"w": WEIGHT, "k": np.array([1])},
    )  # fmt: skip
    half, found = to_half(model)
    assert found == {"top-k and scores": ["values"]}
    assert ("best", "best_float", FLOAT) in float_casts(half)


def test_the_quality_head_is_single_with_its_weights():
    topk = onnx.helper.make_node("TopK", ["p", "k"], ["peaks", "where"])
    model = make(
        [
            node("MatMul", "x w", "corners"), node("Softmax", "corners", "p"), topk, node("MatMul", "peaks w", "hidden"),
            node("Relu", "hidden", "h"), node("MatMul", "h w", "quality"), node("MatMul", "x w", "logits"),
            node("Add", "logits quality", "z"), node("Sigmoid", "z", "scores"),
        ],
        {"x": [2, 4]}, {"scores": [2, 4]}, {"w": WEIGHT, "k": np.array([4])},
    )  # fmt: skip
    found = islands(model)
    assert {name for name, island in found.items() if island == "quality head"} == {
        "p", "peaks", "hidden", "h", "quality",
    }  # fmt: skip
    assert "logits" not in found
