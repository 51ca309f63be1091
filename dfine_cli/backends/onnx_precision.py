"""Of what types the weights in an ONNX file are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
from onnx import TensorProto

NAMES = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}
"""Our names of the types that weights may have; others, such as the whole numbers of shapes, are no weights."""
SMALL = 0.005
"""Share of the weights below which a type is not named."""


def weight_types(file: Path) -> str:
    """The types of the weights, such as ``fp32``, or ``int8 + fp32``, that of the most weights first."""
    model = onnx.load(file, load_external_data=False)
    counts: Counter[str] = Counter()
    constants = [
        attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.HasField("t")
    ]
    for tensor in [*model.graph.initializer, *constants]:
        size = 1
        for side in tensor.dims:
            size *= side
        if tensor.data_type in NAMES:
            counts[NAMES[tensor.data_type]] += size
    total = sum(counts.values())
    return " + ".join(name for name, count in counts.most_common() if count >= SMALL * total)
