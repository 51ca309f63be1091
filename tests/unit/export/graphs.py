"""Small graphs, and what every converted graph must hold to."""

from collections import Counter, defaultdict

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dfine_cli.export.graph import Graph

FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def make(nodes, inputs, outputs, constants=None, opset=17) -> ModelProto:
    """A checked model; ``inputs`` and ``outputs`` are name to shape, or to (shape, type)."""

    def values(ports):
        pairs = {name: port if isinstance(port, tuple) else (port, FLOAT) for name, port in ports.items()}
        return [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in pairs.items()]

    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "graph", values(inputs), values(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def node(kind: str, inputs: str, output: str, **attributes) -> NodeProto:
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def run(model: ModelProto, **inputs) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def maker_types(model: ModelProto) -> dict[str, tuple[set[int], set[int]]]:
    """Floating types that each node reads and makes, by its first output."""
    graph = Graph(model)
    return {
        node.output[0]: tuple(
            {graph.types[name] for name in names if graph.is_float(name)}
            for names in (node.input, node.output)
        )
        for node in graph.nodes
    }


def disagreeing(model: ModelProto) -> list[str]:
    """Nodes one of whose type parameters stands for two types, which a strongly typed build refuses."""
    graph = Graph(model)
    opset = model.opset_import[0].version
    found = []
    for entry in graph.nodes:
        schema = onnx.defs.get_schema(entry.op_type, opset)
        bound = defaultdict(set)
        for names, formals in ((entry.input, schema.inputs), (entry.output, schema.outputs)):
            for index, name in enumerate(names):
                if name:
                    formal = formals[min(index, len(formals) - 1)]
                    bound[formal.type_str].add(graph.types[name])
        if any(len(kinds) > 1 for kinds in bound.values()):
            found.append(f"{entry.op_type} {entry.output[0]}")
    return found


def float_casts(model: ModelProto) -> list[tuple[str, str, int]]:
    """Source, result and type of every cast from a floating type to another."""
    graph = Graph(model)
    return [
        (entry.input[0], entry.output[0], graph.types[entry.output[0]])
        for entry in graph.nodes
        if entry.op_type == "Cast" and graph.is_float(entry.input[0]) and graph.is_float(entry.output[0])
    ]


def doubled_casts(model: ModelProto) -> list[str]:
    """Casts of a cast, of a constant, to the type that is there, or made twice."""
    graph = Graph(model)
    casts = float_casts(model)
    made = {result for _, result, _ in casts}
    repeated = [
        key for key, count in Counter((source, kind) for source, _, kind in casts).items() if count > 1
    ]
    wrong = [
        source
        for source, _, kind in casts
        if source in made or source in graph.constants or graph.types[source] == kind
    ]
    return [*wrong, *(source for source, _ in repeated)]
