"""Of what types the finished graph is: read from the graph itself, never from what was asked for."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final

from onnx import ModelProto, NodeProto, TensorProto

from dfine_cli.export.graph import Graph

NAMES: Final = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}
"""Types that values and weights may have; others are whole numbers that count and point."""

_BORDERS = {"Cast", "QuantizeLinear", "DequantizeLinear"}


def count_types(model: ModelProto) -> dict[str, Any]:
    """Nodes and weights by type.

    A node is of the type that it computes in: of int8 if its first two inputs come out of a
    ``DequantizeLinear``, which is how a runtime knows to compute it in whole numbers. Casts and the like at the
    borders, and nodes that only count and point, are no part of the shares.

    Returns:
        ``nodes`` and ``weights``: shares by ``fp32``, ``fp16`` and ``int8``, which add up to 1; ``casts``: how many
        nodes change between ``fp32`` and ``fp16``; ``counts``: what the shares are made of.
    """
    graph = Graph(model)
    nodes = Counter(kind for node in graph.nodes if (kind := _type_of(graph, node)) is not None)
    weights: Counter[str] = Counter()
    for tensor in graph.constants.values():
        if tensor.data_type in NAMES:
            weights[NAMES[tensor.data_type]] += math.prod(tensor.dims)
    casts = sum(
        node.op_type == "Cast" and graph.is_float(node.input[0]) and graph.is_float(node.output[0])
        for node in graph.nodes
    )
    return {
        "nodes": _shares(nodes),
        "weights": _shares(weights),
        "casts": casts,
        "counts": {"nodes": dict(nodes), "weights": dict(weights)},
    }


def _type_of(graph: Graph, node: NodeProto) -> str | None:
    if node.op_type in _BORDERS:
        return None
    if _computes_in_int8(graph, node):
        return "int8"
    kinds = [graph.types[name] for name in (*node.output, *node.input) if graph.is_float(name)]
    return NAMES[kinds[0]] if kinds else None


def _computes_in_int8(graph: Graph, node: NodeProto) -> bool:
    makers = [graph.maker.get(name) for name in node.input[:2]]
    return bool(makers) and all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.most_common()}
