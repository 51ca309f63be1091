"""Small exported detectors with known answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dfine_cli.artefact import KEY, Artefact, BatchRange, Contract, sidecar_of
from dfine_cli.backends.openvino_core import openvino_core
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.preprocess import Preprocessing

SIZE = (32, 64)
CLASSES = ClassMap(("cell", "dot"), (3, 20), "auto")
BOXES = np.array([[0.25, 0.25, 0.75, 0.5], [0, 0, 1, 1]], np.float32)
"""xyxy as fractions, of the two detections in every image."""
LABELS = np.array([0, 1])

Write = Callable[..., Path]


def build(
    contract: Contract = "published",
    batch: int | None = None,
    size: tuple[int | None, int | None] = SIZE,
    labels: np.ndarray = LABELS,
) -> onnx.ModelProto:
    """A network that finds ``BOXES``, the first one with the mean of the image as its score, the other with half.

    The scores are in ascending order in its output if the mean is below zero, which no image is.
    """
    names = ["images", "orig_target_sizes"] if contract == "published" else ["images"]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *size])]
    inputs += [helper.make_tensor_value_info(name, TensorProto.INT64, [batch, 2]) for name in names[1:]]
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.INT64, [batch, 2]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [batch, 2, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 2]),
    ]
    constants = {
        "fractions": BOXES[None],
        "factors": np.array([[1, 0.5]], np.float32),
        "classes": labels[None].astype(np.int64),
        "twice": np.array([1, 2], np.int64),
        "input": np.array([[SIZE[1], SIZE[0]]], np.float32),
        "zero": np.array(0, np.float32),
        "axis": np.array([1], np.int64),
    }
    sizes = (
        [helper.make_node("Cast", ["orig_target_sizes"], ["wh"], to=TensorProto.FLOAT)]
        if contract == "published"
        else [
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "input"], ["wh"]),
        ]
    )
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean4"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean4", "axis"], ["mean"]),
        helper.make_node("Mul", ["mean", "factors"], ["scores"]),
        *sizes,
        helper.make_node("Tile", ["wh", "twice"], ["whwh"]),
        helper.make_node("Unsqueeze", ["whwh", "axis"], ["scale"]),
        helper.make_node("Mul", ["fractions", "scale"], ["boxes"]),
        helper.make_node("Mul", ["scores", "zero"], ["nothing2"]),
        helper.make_node("Cast", ["nothing2"], ["nothing3"], to=TensorProto.INT64),
        helper.make_node("Add", ["nothing3", "classes"], ["labels"]),
    ]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "detector", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def description(contract: Contract = "published", batch: int | None = None, **changes: object) -> Artefact:
    """What ``dfine export`` would say about ``build``."""
    values: dict[str, object] = {
        "name": "dfine-n",
        "size": "n",
        "contract": contract,
        "input_size": SIZE,
        "batch": BatchRange(1, 2, 4) if batch is None else BatchRange(batch, batch, batch),
        "classes": CLASSES.to_dict(),
        "preprocessing": Preprocessing(SIZE).describe(),
        "exif": "ignore",
        "operating_point": {"threshold": 0.31},
    }
    return Artefact(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes an ONNX file ``NAME.onnx``; with its description inside, beside it, or without one."""

    def to_file(
        where: str = "inside",
        contract: Contract = "published",
        batch: int | None = None,
        name: str = "model",
        **options: object,
    ) -> Path:
        model = build(contract, batch, **options)  # type: ignore[arg-type]
        file = tmp_path / f"{name}.onnx"
        text = description(contract, batch).to_json()
        if where == "inside":
            model.metadata_props.add(key=KEY, value=text)
        elif where == "beside":
            sidecar_of(file).write_text(text)
        onnx.save(model, file)
        return file

    return to_file


def convert_to_openvino(file: Path) -> Path:
    """Write an ONNX file once more in OpenVINO's format, beside it; gives the new path."""
    import openvino

    model = openvino_core().read_model(file)
    inside = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    if KEY in inside:
        model.set_rt_info(inside[KEY], KEY)
    xml = file.with_suffix(".xml")
    openvino.save_model(model, xml, compress_to_fp16=False)
    return xml


@pytest.fixture
def to_openvino() -> Callable[[Path], Path]:
    """``convert_to_openvino``."""
    return convert_to_openvino
