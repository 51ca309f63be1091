"""An ONNX graph as what it is: tensors, who makes each and who reads it.

Passes over a graph work on names; this gives them the neighbours. Constants are initialisers here: constant
nodes, identities and casts that change nothing are taken out first (``tidy``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dfine_cli.errors import DfineError

FLOAT = TensorProto.FLOAT
HALF = TensorProto.FLOAT16

WEIGHTED = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
"""Operators that multiply by a matrix: where nearly all arithmetic and all weights are."""

MOVES_ONLY = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Expand", "Concat"}
"""Operators that put values elsewhere and compute nothing."""


class Graph:
    """Neighbours in a tidied graph.

    Args:
        model: A model that ``tidy`` returned.

    Attributes:
        nodes: Its nodes, in an order in which every tensor is made before it is read.
        maker: The node that makes a tensor; absent for inputs and constants.
        constants: Initialisers by name.
        types: Element type of every tensor that has one.
    """

    def __init__(self, model: ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        graph = inferred.graph
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output if name}
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                if name:
                    self._readers[name].append(node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.types = {name: tensor.data_type for name, tensor in self.constants.items()}
        for value in (*graph.input, *graph.output, *graph.value_info):
            self.types[value.name] = value.type.tensor_type.elem_type

    def readers(self, name: str) -> list[NodeProto]:
        """The nodes that read a tensor."""
        return self._readers.get(name, [])

    def after(self, node: NodeProto) -> Iterator[NodeProto]:
        """The nodes that read what ``node`` makes."""
        for name in node.output:
            yield from self.readers(name)

    def before(self, node: NodeProto) -> Iterator[NodeProto]:
        """The nodes whose results ``node`` reads."""
        for name in node.input:
            if name in self.maker:
                yield self.maker[name]

    def is_float(self, name: str) -> bool:
        """Whether a tensor is of 32 or 16 floating bits."""
        return self.types.get(name) in (FLOAT, HALF)

    def floats_in(self, node: NodeProto) -> list[str]:
        """Floating inputs of a node that are no constants."""
        return [name for name in node.input if self.is_float(name) and name not in self.constants]

    def has_weights(self, node: NodeProto) -> bool:
        """Whether a node multiplies by a constant matrix."""
        return node.op_type in WEIGHTED and any(
            name in self.constants and len(self.constants[name].dims) > 1 for name in node.input
        )

    def through_moves(self, node: NodeProto) -> Iterator[NodeProto]:
        """The nodes that compute with what ``node`` makes, behind reshapes and the like."""
        for reader in self.after(node):
            if reader.op_type in MOVES_ONLY:
                yield from self.through_moves(reader)
            else:
                yield reader


def attribute(node: NodeProto, name: str) -> AttributeProto | None:
    """An attribute of a node by name; None if it is not set."""
    return next((entry for entry in node.attribute if entry.name == name), None)


def tidy(model: ModelProto) -> ModelProto:
    """A copy in which constants are initialisers and nothing stands between a tensor and its readers.

    Raises:
        DfineError: The graph branches: it has an ``If`` or a loop.
    """
    tidied = ModelProto()
    tidied.CopyFrom(model)
    graph = tidied.graph
    del graph.value_info[:]
    same: dict[str, str] = {}
    kept: list[NodeProto] = []
    types = Graph(model).types
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        _refuse_branches(node)
        if node.op_type == "Constant":
            graph.initializer.append(_constant(node))
            continue
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        if _changes_nothing(node, types) and node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
            continue
        kept.append(node)
    replace_nodes(graph, kept)
    return tidied


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Put ``nodes`` in place of those of ``graph``, and drop the constants that nothing reads any more."""
    nodes = list(nodes)
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    constants = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)


def _refuse_branches(node: NodeProto) -> None:
    if any(entry.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for entry in node.attribute):
        raise DfineError(
            f"the graph branches at node {node.name or node.op_type!r} ({node.op_type}), so its types cannot be changed",
            "export with fixed height and width, and simplified",
        )


def _changes_nothing(node: NodeProto, types: dict[str, int]) -> bool:
    if node.op_type == "Cast":
        return bool(types.get(node.input[0]) == helper.get_node_attr_value(node, "to"))
    return node.op_type == "Identity"


def _constant(node: NodeProto) -> TensorProto:
    """The value of a constant node under the name of its output."""
    (entry,) = node.attribute
    value = helper.get_attribute_value(entry)
    if entry.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(value)
    else:  # value_int, value_floats and the like
        kind = TensorProto.INT64 if "int" in entry.name else FLOAT
        dims = [len(value)] if entry.name.endswith("s") else []
        tensor = helper.make_tensor("", kind, dims, value if dims else [value])
    tensor.name = node.output[0]
    return tensor


def array(tensor: TensorProto) -> NDArray[Any]:
    """Values of a constant."""
    return numpy_helper.to_array(tensor)
