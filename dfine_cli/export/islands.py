"""The parts of a detector that stay in single precision when the rest is halved, and why each does.

They are found by what they compute, not by the names of their nodes, which an optimiser is free to change: what
leads to an index, to a choice or to an output is followed back to the last layer with weights. So they are
found in any graph of the family, whatever wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from onnx import NodeProto

from dfine_cli.export.graph import MOVES_ONLY, WEIGHTED, Graph, array

LARGEST_HALF = 65504.0
SMALLEST_HALF = 2.0**-24
NORMS = {"LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization"}
SHAPE_ONLY = {"Shape", "Size"}
"""Operators that read the shape of their input and not its values."""
INDEXED = {"Gather": 1, "GatherElements": 1, "GatherND": 1}
"""Operators that read at places, and which input holds those."""

Nodes = list[NodeProto]


class Island(NamedTuple):
    """A part that stays in single precision."""

    name: str
    reason: str
    find: Callable[[Graph], Iterable[NodeProto]]
    """Its nodes in a graph; a node that is found by two islands belongs to the first."""


def _leads_to(graph: Graph, names: Iterable[str]) -> Iterator[NodeProto]:
    """The nodes that tensors come from, back to the last layers with weights, attention, norms and choices."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        node = graph.maker.get(name)
        if name in seen or node is None or _is_source(graph, node):
            continue
        seen.update(node.output)
        yield node
        waiting.extend(node.input)


def _is_source(graph: Graph, node: NodeProto) -> bool:
    """Whether a value is new here rather than worked out of what came before."""
    if node.op_type in WEIGHTED:
        return not _is_expectation(graph, node)
    return node.op_type in NORMS | SHAPE_ONLY | {"TopK", "GridSample"} or _is_bias(graph, node)


def _is_bias(graph: Graph, node: NodeProto) -> bool:
    """Whether a node adds the bias of the layer before it."""
    return (
        node.op_type == "Add"
        and any(
            graph.has_weights(maker) and len(list(graph.after(maker))) == 1 for maker in graph.before(node)
        )
        and any(name in graph.constants for name in node.input)
    )


def _is_expectation(graph: Graph, node: NodeProto) -> bool:
    """Whether a matrix product is that of probabilities with the fixed offsets of their bins."""
    if node.op_type not in WEIGHTED or not any(name in graph.constants for name in node.input):
        return False
    maker = graph.maker.get(node.input[0])
    while maker is not None and maker.op_type in MOVES_ONLY:
        maker = graph.maker.get(maker.input[0])
    return maker is not None and maker.op_type == "Softmax"


def _box_integral(graph: Graph) -> Iterator[NodeProto]:
    for softmax in graph.nodes:
        if softmax.op_type != "Softmax":
            continue
        for node in graph.through_moves(softmax):
            weighs = node.op_type == "Mul" and any(name in graph.constants for name in node.input)
            if weighs or _is_expectation(graph, node):
                yield softmax
                yield from _leads_to(graph, [*node.output])
                yield from (reader for reader in graph.after(node) if reader.op_type == "ReduceSum")


def _quality_head(graph: Graph) -> Iterator[NodeProto]:
    for choice in graph.nodes:
        if choice.op_type != "TopK":
            continue
        found = list(_follow(graph, choice.output[0]))
        if any(graph.has_weights(node) for node in found):
            yield choice
            yield from _leads_to(graph, [choice.input[0]])
            yield from found


def _follow(graph: Graph, name: str) -> Iterator[NodeProto]:
    """What is computed from a tensor alone, layers with weights included."""
    alone = {name}
    for node in graph.nodes:
        inputs = graph.floats_in(node)
        if inputs and all(entry in alone for entry in inputs):
            alone.update(node.output)
            yield node


def _boxes(graph: Graph) -> Iterator[NodeProto]:
    return _leads_to(graph, ["boxes"])


def _choices(graph: Graph) -> Iterator[NodeProto]:
    choices = [node for node in graph.nodes if node.op_type == "TopK"]
    yield from choices
    yield from _leads_to(graph, ["scores", *(node.input[0] for node in choices)])


def _coordinates(graph: Graph) -> Iterator[NodeProto]:
    for node in graph.nodes:
        if node.op_type == "GridSample":
            yield node
            yield from _leads_to(graph, [node.input[1]])
        elif node.op_type in INDEXED:
            yield from _leads_to(graph, [node.input[INDEXED[node.op_type]]])


def _written_out_norms(graph: Graph) -> Iterator[NodeProto]:
    for root in graph.nodes:
        if root.op_type != "Sqrt":
            continue
        chain = [root, *_back(graph, root, ("Add", "ReduceMean", "Pow", "Sub", "ReduceMean"))]
        if any(node.op_type == "ReduceMean" for node in chain):
            yield from chain
            for division in graph.after(root):
                yield division
                if (
                    division.op_type != "Div" or division.input[0] in graph.constants
                ):  # 1 / root, to multiply with
                    yield from graph.after(division)


def _back(graph: Graph, node: NodeProto, kinds: tuple[str, ...]) -> Iterator[NodeProto]:
    """The chain of makers of these kinds, as far as it goes; a square may be a product, too."""
    for kind in kinds:
        makers = [
            maker for maker in graph.before(node) if maker.op_type in (kind, "Mul" if kind == "Pow" else kind)
        ]
        if not makers:
            return
        node = makers[-1]
        yield node


def _out_of_range(graph: Graph) -> Iterator[NodeProto]:
    for node in graph.nodes:
        if any(name in graph.constants and not fits_half(graph, name) for name in node.input):
            yield node


def fits_half(graph: Graph, name: str) -> bool:
    """Whether half precision holds a constant: nothing becomes infinite, and no single number becomes zero."""
    tensor = graph.constants[name]
    if not graph.is_float(name):
        return True
    values = np.abs(array(tensor).astype(np.float64))
    values = values[np.isfinite(values)]
    if values.size == 0:
        return True
    return bool(
        values.max() <= LARGEST_HALF and (values.size > 1 or values[0] == 0 or values[0] >= SMALLEST_HALF)
    )


ISLANDS: tuple[Island, ...] = (
    Island(
        "box integral",
        "an edge is the mean of 33 offsets that nearly cancel, and rounding moves it by more than a bin is fine",
        _box_integral,
    ),
    Island(
        "quality head",
        "it reads differences of probabilities that half precision rounds away, and shifts every score of a query",
        _quality_head,
    ),
    Island("boxes", "above 2048 half precision cannot tell one pixel from the next", _boxes),
    Island(
        "top-k and scores",
        "rounded scores tie, and which of two equal ones is kept is left to chance",
        _choices,
    ),
    Island(
        "sampling coordinates",
        "a place in a map times its width, and the index of a cell above 2048, are not exact in half precision",
        _coordinates,
    ),
    Island("norms in basic operators", "squares of activations overflow half precision", _written_out_norms),
    Island("constants out of range", "half precision cannot hold the constant", _out_of_range),
)
"""In the order in which they claim nodes."""


def find_islands(graph: Graph) -> dict[str, str]:
    """Which island a node belongs to: first output of the node to name of the island.

    A node that reads from islands alone joins them: to halve it would cost two casts and gain nothing.
    """
    members: dict[str, str] = {}
    for island in ISLANDS:
        for node in island.find(graph):
            if any(graph.is_float(name) for name in (*node.input, *node.output)):
                members.setdefault(node.output[0], island.name)
    for node in graph.nodes:
        if node.output[0] in members or graph.has_weights(node) or node.op_type in NORMS | SHAPE_ONLY:
            continue
        homes = [_home(graph, members, name) for name in graph.floats_in(node) if not is_neutral(graph, name)]
        if homes and all(homes):
            members[node.output[0]] = str(homes[0])
    return members


def _home(graph: Graph, members: dict[str, str], name: str) -> str | None:
    maker = graph.maker.get(name)
    return None if maker is None else members.get(maker.output[0])


def is_neutral(graph: Graph, name: str) -> bool:
    """Whether a tensor is made from whole numbers, and so can be made in any precision."""
    maker = graph.maker.get(name)
    return maker is not None and maker.op_type == "Cast" and not graph.is_float(maker.input[0])
