"""Half precision in a graph: types, borders, and what must survive."""

import numpy as np
import onnx
import pytest

from dfine_cli.errors import DfineError, UsageError
from dfine_cli.export.half import to_half
from tests.rounding import rounded
from tests.unit.export.graphs import (
    FLOAT,
    HALF,
    INT64,
    disagreeing,
    doubled_casts,
    float_casts,
    make,
    maker_types,
    node,
    run,
)

WEIGHT = np.eye(4, dtype=np.float32)


def chain(*nodes, **constants):
    """x [2, 4] to y [2, 4]."""
    return make(list(nodes), {"x": [2, 4]}, {"y": [2, 4]}, constants)


def test_types_agree_at_every_node(half):
    assert disagreeing(half.model) == []


def test_casts_stand_at_borders_only(half):
    assert doubled_casts(half.model) == []
    types = maker_types(half.model)
    mixed = [name for name, (read, made) in types.items() if len(read | made) > 1]
    allowed = {result for _, result, _ in float_casts(half.model)}
    resize = {
        n.output[0] for n in half.model.graph.node if n.op_type == "Resize"
    }  # its scales are always single
    assert set(mixed) == allowed | resize


def test_islands_are_single_and_the_rest_is_half(half):
    types = maker_types(half.model)
    inside = {name for names in half.islands.values() for name in names}
    assert inside
    casts = {result for _, result, _ in float_casts(half.model)}
    for name, (read, made) in types.items():
        if name in inside:
            assert (read | made) <= {FLOAT}, name
        elif name not in casts:
            assert FLOAT not in made, name


def test_inputs_and_outputs_stay(half):
    for before, after in (
        (half.single.graph.input, half.model.graph.input),
        (half.single.graph.output, half.model.graph.output),
    ):
        assert list(before) == list(after)


def test_it_is_half_the_size(half):
    assert half.model.ByteSize() < 0.6 * half.single.ByteSize()


def test_boxes_beyond_the_range_of_half_precision_survive(half):
    """A width of 200,000 px is infinite in half precision."""
    images = half.image
    sizes = np.array([[200_000, 100_000]])
    _, expected, _ = run(half.single, images=images, orig_target_sizes=sizes)
    _, boxes, _ = run(half.model, images=images, orig_target_sizes=sizes)
    assert np.isfinite(boxes).all()
    assert boxes.max() > 65504
    assert abs(boxes[..., 2:].max() - expected[..., 2:].max()) < 2000


@pytest.mark.parametrize("form", ["as the runtime computes it", "with every tensor rounded"])
def test_detections_are_those_of_single_precision(half, form):
    model = half.model if form.startswith("as") else rounded(half.model)
    inputs = {"images": half.image, "orig_target_sizes": np.array([[640, 480]])}
    labels, boxes, scores = run(half.single, **inputs)
    found_labels, found_boxes, found_scores = run(model, **inputs)
    sure = scores[0] > half.sure
    assert sure.sum() >= 2
    for label, box, score in zip(labels[0][sure], boxes[0][sure], scores[0][sure], strict=True):
        away = abs(found_boxes[0] - box).max(1) + 1e6 * (found_labels[0] != label)
        assert away.min() < 2  # px of 640
        assert abs(found_scores[0][away.argmin()] - score) < 0.02


def test_constants_that_do_not_fit_stay_single():
    model = chain(
        node("MatMul", "x w", "a"), node("Mul", "a big", "b"), node("Mul", "b small", "c"), node("MatMul", "c w", "y"),
        w=WEIGHT, big=np.float32(1e6), small=np.float32(1e-9),
    )  # fmt: skip
    half, islands = to_half(model)
    assert islands == {"constants out of range": ["b", "c"]}
    x = np.full((2, 4), 3, np.float32)
    np.testing.assert_allclose(run(half, x=x)[0], run(model, x=x)[0], rtol=1e-3)


def test_infinite_constants_fit():
    mask = np.float32([0, 0, -np.inf, 0])
    model = chain(node("MatMul", "x w", "a"), node("Add", "a mask", "y"), w=WEIGHT, mask=mask)
    half, islands = to_half(model)
    assert islands == {}
    assert run(half, x=np.ones((2, 4), np.float32))[0][0].tolist() == [1, 1, -np.inf, 1]


def test_a_constant_read_in_both_precisions_is_stored_in_both():
    model = chain(
        node("MatMul", "x w", "a"), node("Mul", "a big", "b"), node("Add", "b v", "c"), node("MatMul", "c w", "d"),
        node("Mul", "d v", "y"),
        w=WEIGHT, big=np.float32(1e6), v=np.full(4, 0.5, np.float32),
    )  # fmt: skip
    half, _ = to_half(model)
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert types == {"w_half": HALF, "big": FLOAT, "v": FLOAT, "v_half": HALF}


def test_a_cast_from_whole_numbers_goes_straight_to_half():
    model = make(
        [node("Cast", "i", "f", to=FLOAT), node("Mul", "x f", "y")],
        {"x": [2, 4], "i": ([2, 4], INT64)},
        {"y": [2, 4]},
    )
    half, _ = to_half(model)
    assert float_casts(half) == [("x", "x_half", HALF), ("y_half", "y", FLOAT)]
    kinds = [entry.attribute[0].i for entry in half.graph.node if entry.input[0] == "i"]
    assert kinds == [HALF]


def test_an_output_that_is_read_on_keeps_its_type():
    model = make(
        [node("Relu", "x", "y"), node("Sigmoid", "y", "z")], {"x": [2, 4]}, {"y": [2, 4], "z": [2, 4]}
    )
    half, _ = to_half(model)
    assert disagreeing(half) == doubled_casts(half) == []
    y, z = run(half, x=np.ones((2, 4), np.float32))
    assert y.dtype == z.dtype == np.float32


def test_the_scales_of_a_resize_stay_single():
    model = make(
        [onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")],
        {"x": [1, 1, 2, 2]},
        {"y": [1, 1, 4, 4]},
        {"scales": np.float32([1, 1, 2, 2])},
    )
    half, _ = to_half(model)
    assert half.graph.initializer[0].data_type == FLOAT
    assert run(half, x=np.ones((1, 1, 2, 2), np.float32))[0].shape == (1, 1, 4, 4)


def test_constants_and_identities_of_any_kind_are_tidied():
    constants = [
        onnx.helper.make_node("Constant", [], ["one"], value_float=1.0),
        onnx.helper.make_node("Constant", [], ["four"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        onnx.helper.make_node("Constant", [], ["shape"], value_ints=[2, 4]),
    ]
    model = chain(
        *constants,
        node("Identity", "x", "same"),
        node("Cast", "same", "still", to=FLOAT),
        node("Add", "still one", "a"),
        node("Mul", "a four", "b"),
        node("Reshape", "b shape", "y"),
    )
    half, _ = to_half(model)
    assert [entry.op_type for entry in half.graph.node] == ["Cast", "Add", "Mul", "Reshape", "Cast"]
    assert run(half, x=np.ones((2, 4), np.float32))[0][0].tolist() == [2, 4, 6, 8]


def test_the_graph_that_was_given_is_not_changed():
    model = chain(node("Relu", "x", "y"))
    before = model.SerializeToString()
    to_half(model)
    assert model.SerializeToString() == before


def test_an_operator_set_without_layer_normalisation_is_refused():
    model = make([node("Relu", "x", "y")], {"x": [1]}, {"y": [1]}, opset=16)
    with pytest.raises(UsageError, match="needs opset 17 or later, this graph has 16") as error:
        to_half(model)
    assert "--opset 17" in error.value.hint


def test_a_graph_that_branches_is_refused():
    branch = onnx.helper.make_graph([node("Relu", "x", "r")], "b", [], [onnx.ValueInfoProto(name="r")])
    choose = onnx.helper.make_node("If", ["c"], ["y"], name="choose", then_branch=branch, else_branch=branch)
    model = make([choose], {"x": [1], "c": ([1], onnx.TensorProto.BOOL)}, {"y": [1]})
    with pytest.raises(DfineError, match=r"branches at node 'choose' \(If\)") as error:
        to_half(model)
    assert error.value.hint
