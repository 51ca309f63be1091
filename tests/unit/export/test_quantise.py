"""8 bits in a graph: where the pairs stand, what they are like, and what the images have to do with it."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfine_cli.data.images import ImageError
from dfine_cli.errors import UsageError
from dfine_cli.export import quantise
from dfine_cli.export.graph import Graph
from dfine_cli.export.precision import convert
from dfine_cli.export.quantise import CalibrationImages
from tests.unit.export.graphs import make, node, run

ODD = "data/fruits_odd"


@pytest.fixture(scope="module")
def odd_images(shared):
    """PNGs named .jpg with alpha or a palette, tiny files and others."""
    return CalibrationImages(sorted((shared / ODD).rglob("*.jpg")))


def small_detector():
    """Three convolutions, of which the last reads something with an outlier; and a residual."""
    rng = np.random.default_rng(0)
    peak = np.zeros((1, 1, 32, 32), np.float32)
    peak[..., 0, 0] = 300  # one loud place among quiet ones: the quiet ones are within a step of 8 bits
    return make(
        [
            onnx.helper.make_node("Conv", ["images", "w1"], ["a"]), node("Sigmoid", "a", "s"), node("Mul", "a s", "b"),
            onnx.helper.make_node("Conv", ["b", "w2", "bias"], ["c"]), node("Add", "b c", "d"),
            node("Add", "d peak", "e"), onnx.helper.make_node("Conv", ["e", "w3"], ["y"]),
        ],
        {"images": [1, 3, 32, 32]}, {"y": [1, 4, 32, 32]},
        {
            "w1": rng.standard_normal((4, 3, 1, 1), dtype=np.float32), "bias": np.ones(4, np.float32),
            "w2": rng.standard_normal((4, 4, 1, 1), dtype=np.float32) * np.float32([[1], [2], [4], [8]])[..., None, None],
            "w3": rng.standard_normal((4, 4, 1, 1), dtype=np.float32), "peak": peak,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def small(odd_images):
    model = small_detector()
    return model, convert(model, "int8", odd_images)


def pairs(model):
    """What each convolution reads through a pair: quantisers of its image and of its filters, or None."""
    graph = Graph(model)
    return {
        entry.output[0]: [graph.maker.get(name) for name in entry.input[:2]]
        for entry in graph.nodes
        if entry.op_type == "Conv"
    }


def test_pairs_stand_before_convolutions_and_nowhere_else(small):
    graph = Graph(small[1].model)
    for entry in graph.nodes:
        if entry.op_type == "DequantizeLinear":
            assert {reader.op_type for reader in graph.readers(entry.output[0])} == {"Conv"}
        elif entry.op_type not in {"Conv", "QuantizeLinear"}:
            assert not {maker.op_type for maker in graph.before(entry)} & {
                "DequantizeLinear",
                "QuantizeLinear",
            }


def test_filters_are_stored_in_8_bits_with_a_scale_each_and_zero_is_zero(small):
    graph = Graph(small[1].model)
    for entry in graph.nodes:
        if entry.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            assert not numpy_helper.to_array(graph.constants[entry.input[2]]).any()
    _, filters = pairs(small[1].model)["c"]
    assert graph.constants[filters.input[0]].data_type == onnx.TensorProto.INT8
    assert graph.constants[filters.input[1]].dims == [4]


def test_a_convolution_that_reads_outliers_stays_single(small):
    found = pairs(small[1].model)
    assert all(found["a"]) and all(found["c"])
    assert "DequantizeLinear" not in {maker.op_type for maker in found["y"] if maker is not None}
    assert set(small[1].islands) == {"decoder and attention", "convolutions with outliers"}
    assert small[1].found["counts"]["nodes"]["int8"] == 2


def test_the_outputs_are_nearly_those_of_single_precision(small):
    image = np.random.default_rng(1).random((1, 3, 32, 32), dtype=np.float32)
    expected, found = run(small[0], images=image)[0], run(small[1].model, images=image)[0]
    assert 0 < abs(found - expected).max() < 0.05 * abs(expected).max()


def test_biases_stay_single(small):
    graph = Graph(small[1].model)
    assert graph.constants["bias"].data_type == onnx.TensorProto.FLOAT


def test_a_detector_keeps_its_matrices_and_its_outputs(single_graph, odd_images):
    single = single_graph["gather"]
    converted = convert(single, "int8", CalibrationImages(odd_images.files[:2]))
    found = pairs(converted.model)
    graph = Graph(converted.model)
    in_8_bits = [name for name, made in found.items() if made[1] is not None]
    assert len(in_8_bits) == converted.found["counts"]["nodes"]["int8"] > len(found) / 2
    assert not any(
        maker.op_type == "DequantizeLinear"
        for entry in graph.nodes
        if entry.op_type in {"Gemm", "MatMul"}
        for maker in graph.before(entry)
    )
    assert list(converted.model.graph.output) == list(single.graph.output)
    sizes = np.array([[640, 480]])
    image = np.random.default_rng(0).random((1, 3, 64, 96), dtype=np.float32)
    _, boxes, scores = run(converted.model, images=image, orig_target_sizes=sizes)
    assert np.isfinite(boxes).all() and ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize("images", [None, CalibrationImages([])])
def test_no_images_is_refused(images):
    with pytest.raises(UsageError, match="int8 is calibrated on images, and there are none") as error:
        convert(small_detector(), "int8", images)
    assert "--data" in error.value.hint


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "broken.jpg"
    file.write_bytes(b"\xff\xd8 no image")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        convert(small_detector(), "int8", CalibrationImages([file]))


def test_a_graph_whose_convolutions_all_read_outliers_stays_as_it_is(odd_images, monkeypatch):
    monkeypatch.setattr(quantise, "LEAST_SIGNAL_DB", 1000.0)
    converted = convert(small_detector(), "int8", odd_images)
    assert converted.found["nodes"] == {"fp32": 1.0}
