"""Half precision written into a graph: every tensor in 16 bits but for the islands, casts at their borders only.

Engines are built strongly typed, so that the types in the graph are the types that run and a node whose inputs
disagree is an error. The converters of onnxconverter-common and onnxruntime.transformers are not used: they choose
by operator name or node name rather than by what is computed, put a cast on every edge of a blocked node and so in
pairs between two of them, cast weights at run time, and clamp weights instead of saying that they do not fit.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dfine_cli.errors import UsageError
from dfine_cli.export.graph import FLOAT, HALF, Graph, array, replace_nodes, tidy
from dfine_cli.export.islands import SHAPE_ONLY, find_islands

LEAST_OPSET = 17

_TYPE_NAMES: dict[int, str] = {FLOAT: "tensor(float)", HALF: "tensor(float16)"}
_SUFFIX: dict[int, str] = {FLOAT: "float", HALF: "half"}
_TYPED_BY_ATTRIBUTE = {"ConstantOfShape", "RandomNormal", "RandomUniform", "EyeLike"}


def to_half(model: ModelProto) -> tuple[ModelProto, dict[str, list[str]]]:
    """The graph in half precision, with single precision inputs, outputs and islands.

    Args:
        model: A graph in single precision; it is not changed.

    Returns:
        The converted graph, and the first outputs of the nodes of each island by its name.

    Raises:
        UsageError: Its operator set has no layer normalisation.
        DfineError: The graph branches.
    """
    _check_opset(model)
    tidied = tidy(model)
    graph = Graph(tidied)
    islands = find_islands(graph)
    converted = _Writer(tidied, graph, islands).write()
    onnx.checker.check_model(converted, full_check=True)
    names: dict[str, list[str]] = {}
    for output, island in islands.items():
        names.setdefault(island, []).append(output)
    return converted, names


def opset_of(model: ModelProto) -> int:
    """Version of the standard operators that a model uses."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _check_opset(model: ModelProto) -> None:
    opset = opset_of(model)
    if opset < LEAST_OPSET:
        raise UsageError(
            f"half precision needs opset {LEAST_OPSET} or later, this graph has {opset}: before it LayerNormalization is "
            "written out in basic operators, which overflow and which TensorRT gets wrong",
            f"export with --opset {LEAST_OPSET}, or keep --precision fp32",
        )


class _Writer:
    """Rewrites the nodes of a tidied graph in order, and puts in what casts they need.

    Args:
        model: The graph, which is changed.
        graph: Its neighbours.
        islands: ``find_islands`` of it.
    """

    def __init__(self, model: ModelProto, graph: Graph, islands: dict[str, str]) -> None:
        self._model = model
        self._graph = graph
        self._islands = islands
        self._opset = opset_of(model)
        self._types = dict(graph.types)
        self._made: dict[tuple[str, int], str] = {}
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._outputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}

    def write(self) -> ModelProto:
        """The finished graph."""
        for node in self._graph.nodes:
            if node.op_type == "Cast" and self._graph.is_float(node.output[0]):
                self._write_cast(node)
            else:
                self._write(node)
        self._model.graph.initializer.extend(self._constants)
        replace_nodes(self._model.graph, self._nodes)
        return self._model

    def _write(self, node: NodeProto) -> None:
        for index, name in enumerate(node.input):
            if self._graph.is_float(name) and not _reads_any_type(node):
                node.input[index] = self._as(name, self._input_type(node, index))
        self._nodes.append(node)
        for index, name in enumerate(node.output):
            if self._graph.is_float(name):
                self._types[name] = _type_of(self._schema(node), "outputs", index, self._wanted(node))
                if name in self._outputs and self._types[name] != self._outputs[name]:
                    self._hand_out(node, index)

    def _write_cast(self, node: NodeProto) -> None:
        """A cast of the exporter: right away to what its readers want, so that no second one follows it."""
        (source,), (made,) = node.input, node.output
        wanted = {
            self._input_type(reader, index)
            for reader in self._graph.readers(made)
            for index, name in enumerate(reader.input)
            if name == made
        }
        if made in self._outputs:
            wanted.add(self._outputs[made])
        for kind in sorted(wanted):  # single precision first: it keeps the name
            name = made if kind == min(wanted) else f"{made}_{_SUFFIX[kind]}"
            self._types[name] = kind
            self._made[made, kind] = name
            self._nodes.append(_cast(source, name, kind))

    def _hand_out(self, node: NodeProto, index: int) -> None:
        """Give an output of the graph the type that it was declared with."""
        name = node.output[index]
        inner = node.output[index] = f"{name}_{_SUFFIX[self._types[name]]}"
        self._made[name, self._types[name]] = inner
        self._types[name] = self._outputs[name]
        self._nodes.append(_cast(inner, name, self._outputs[name]))

    def _as(self, name: str, kind: int) -> str:
        """A tensor in a type: itself, a converted constant, or the result of a cast, each made once."""
        if self._types[name] == kind:
            return name
        if (name, kind) not in self._made:
            converted = self._made[name, kind] = f"{name}_{_SUFFIX[kind]}"
            if name in self._graph.constants:
                self._constants.append(_converted(self._graph.constants[name], converted, kind))
            else:
                self._nodes.append(_cast(name, converted, kind))
        return self._made[name, kind]

    def _wanted(self, node: NodeProto) -> int:
        single = node.output[0] in self._islands or node.op_type in _TYPED_BY_ATTRIBUTE
        return FLOAT if single else HALF

    def _input_type(self, node: NodeProto, index: int) -> int:
        return _type_of(self._schema(node), "inputs", index, self._wanted(node))

    def _schema(self, node: NodeProto) -> onnx.defs.OpSchema:
        return onnx.defs.get_schema(node.op_type, self._opset, node.domain)


def _reads_any_type(node: NodeProto) -> bool:
    return node.op_type in SHAPE_ONLY or node.op_type == "Cast"


def _type_of(schema: onnx.defs.OpSchema, side: str, index: int, wanted: int) -> int:
    """``wanted`` if the operator takes or gives it at this place, such as not for the scales of a Resize."""
    formals = getattr(schema, side)
    formal = formals[min(index, len(formals) - 1)]  # the last one may stand for many
    for constraint in schema.type_constraints:
        if constraint.type_param_str == formal.type_str:
            return wanted if _TYPE_NAMES[wanted] in constraint.allowed_type_strs else FLOAT
    return FLOAT


def _cast(source: str, made: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [made], name=f"{made}/cast", to=kind)


def _converted(tensor: TensorProto, name: str, kind: int) -> TensorProto:
    return numpy_helper.from_array(array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind)), name)
