"""A graph in half precision as hardware with half precision computes it, for a machine without.

ONNX Runtime has few kernels for half precision on a CPU: it computes most nodes in single precision, and does not
round what goes from one of them to the next. Here every half-precision tensor is rounded, and infinite beyond
65504; sums inside a node are of single precision, as they are in tensor cores.
"""

import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dfine_cli.export.graph import MOVES_ONLY, Graph

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def rounded(model: ModelProto) -> ModelProto:
    """The graph in single precision with all its half-precision tensors rounded to what they can hold."""
    types = Graph(model).types
    result = ModelProto()
    result.CopyFrom(model)
    del result.graph.value_info[:]
    for tensor in result.graph.initializer:
        if tensor.data_type == HALF:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("f4"), tensor.name))
    nodes = []
    for node in model.graph.node:
        node = onnx.NodeProto.FromString(node.SerializeToString())
        nodes.append(node)
        if node.op_type == "Cast":
            if helper.get_node_attr_value(node, "to") == HALF:
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("to", FLOAT))
            elif types[node.input[0]] == HALF and types[node.output[0]] == FLOAT:
                node.op_type = "Identity"
                del node.attribute[:]
                continue
        if node.op_type in MOVES_ONLY:
            continue
        for index, name in enumerate(node.output):
            if types.get(name) == HALF:
                exact, short = f"{name}_exact", f"{name}_short"
                node.output[index] = exact
                nodes.append(helper.make_node("Cast", [exact], [short], to=HALF))
                nodes.append(helper.make_node("Cast", [short], [name], to=FLOAT))
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    onnx.checker.check_model(result, full_check=True)
    return result
