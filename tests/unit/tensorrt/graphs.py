"""Small ONNX graphs with the contracts of a detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dfine_cli.artefact import Artefact, BatchRange, Contract, sidecar_of

SIZE = (32, 64)
BOXES = np.array([[0.1, 0.2, 0.3, 0.5], [0.4, 0.1, 0.9, 0.6], [0.0, 0.5, 0.5, 1.0]], np.float32)
"""Of the three classes, as fractions."""


def describe(
    batch: tuple[int, int, int] = (1, 1, 1), contract: Contract = "published", precision: str = "fp32"
) -> Artefact:
    return Artefact(
        name="dfine-n",
        size="n",
        contract=contract,
        input_size=SIZE,
        batch=BatchRange(*batch),
        classes={"names": ["red", "white", "other"], "category_ids": [3, 7, 9], "rule": "auto"},
        preprocessing={"size": list(SIZE)},
        precision=precision,
    )


def write(file: Path, artefact: Artefact, half: bool = False) -> Path:
    """A graph that scores a class by the mean of a colour, with its description beside it.

    Args:
        file: The ONNX file.
        artefact: Its description; ``batch`` and ``contract`` shape the graph.
        half: Whether the scores are computed in half precision.
    """
    batch = artefact.batch.most if artefact.batch.is_fixed else "batch"
    height, width = artefact.input_size
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, height, width])]
    sizes_name = "pixels"
    nodes, constants = [], [numpy_helper.from_array(BOXES[None], "fractions")]
    constants.append(numpy_helper.from_array(np.array([3], np.int64), "three"))
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    if artefact.contract == "published":
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [batch, 2]))
        nodes.append(
            helper.make_node(
                "Cast", ["orig_target_sizes"], [sizes_name], name="/pixels", to=TensorProto.FLOAT
            )
        )
    else:
        constants.append(numpy_helper.from_array(np.array([[width, height]], np.float32), sizes_name))
    last = "images"
    if half:
        nodes.append(helper.make_node("Cast", [last], ["halves"], name="/halve", to=TensorProto.FLOAT16))
        last = "halves"
    nodes += [
        helper.make_node("ReduceMean", [last], ["means"], name="/mean", axes=[2, 3], keepdims=0),
        helper.make_node("Sigmoid", ["means"], ["raw"], name="/sigmoid"),
        helper.make_node("TopK", ["raw", "three"], ["best", "labels"], name="/decoder/top", axis=1),
        helper.make_node("Cast", ["best"], ["scores"], name="/scores", to=TensorProto.FLOAT),
        helper.make_node("Concat", [sizes_name, sizes_name], ["corners"], name="/corners", axis=1),
        helper.make_node("Unsqueeze", ["corners", "one"], ["rows"], name="/rows"),
        helper.make_node("Mul", ["rows", "fractions"], ["all_boxes"], name="/scale"),
    ]
    if artefact.contract == "published":
        nodes.append(
            helper.make_node("GatherElements", ["all_boxes", "spread"], ["boxes"], name="/pick", axis=1)
        )
    else:  # the same boxes for every image
        nodes.append(
            helper.make_node("GatherElements", ["many_boxes", "spread"], ["boxes"], name="/pick", axis=1)
        )
        nodes.insert(
            -1, helper.make_node("Cast", ["spread"], ["zeros_like"], name="/like", to=TensorProto.FLOAT)
        )
        constants.append(numpy_helper.from_array(np.array(0, np.float32), "zero"))
        nodes.insert(-1, helper.make_node("Mul", ["zeros_like", "zero"], ["zeros"], name="/zeros"))
        nodes.insert(-1, helper.make_node("Add", ["zeros", "all_boxes"], ["many_boxes"], name="/many"))
    constants.append(numpy_helper.from_array(np.array([1, 1, 4], np.int64), "times"))
    constants.append(numpy_helper.from_array(np.array([2], np.int64), "two"))
    spread = [
        helper.make_node("Unsqueeze", ["labels", "two"], ["column"], name="/column"),
        helper.make_node("Tile", ["column", "times"], ["spread"], name="/spread"),
    ]
    place = next(i for i, node in enumerate(nodes) if node.name == "/scores")
    nodes[place:place] = spread
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.INT64, [batch, 3]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [batch, 3, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3]),
    ]
    graph = helper.make_graph(nodes, "detector", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
    sidecar_of(file).write_text(artefact.to_json())
    return file


def images(count: int, seed: int = 0) -> np.ndarray:
    """[count, 3, H, W] float32 in [0, 1], with the colours far apart."""
    random = np.random.default_rng(seed)
    colours = random.permuted(np.tile([0.1, 0.5, 0.9], (count, 1)), axis=1)[..., None, None]
    return np.clip(colours + random.normal(0, 0.05, (count, 3, *SIZE)), 0, 1).astype(np.float32)


def sizes_wh(count: int) -> np.ndarray:
    """[count, 2] int64 (width, height)."""
    return np.array([[640 + 10 * i, 480 - 5 * i] for i in range(count)], np.int64)
