"""Zeros around a map as an attribute of the operator that reads it, in place of an operator of their own."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper


def fold_padding(model: ModelProto) -> None:
    """Let convolutions and poolings pad by themselves where that is exact, in place.

    A convolution pads with zeros, and a pooling with what is below everything: that is the same if nothing in
    its input is below zero, as after a ReLU.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    kept = []
    for node in model.graph.node:
        readers = [reader for reader in model.graph.node if node.output[0] in reader.input]
        amounts = _amounts(node, constants) if node.op_type == "Pad" else None
        positive = amounts is not None and _is_positive(node.input[0], makers, constants)
        # All or none: ONNX Runtime itself folds zeros into a pooling that is their only reader, exact or not.
        if amounts is None or not all(
            reader.op_type == "Conv" or (reader.op_type == "MaxPool" and positive) for reader in readers
        ):
            kept.append(node)
            continue
        for reader in readers:
            _add(reader, amounts)
            reader.input[0] = node.input[0]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    constants_left = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants_left)


def _amounts(pad: NodeProto, constants: dict[str, np.ndarray]) -> list[int] | None:
    """Zeros above, left, below and right of maps [B, C, H, W]; None if it pads otherwise."""
    mode = next((entry.s for entry in pad.attribute if entry.name == "mode"), b"constant")
    amounts = constants.get(pad.input[1])
    value = constants.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
    if mode != b"constant" or amounts is None or amounts.shape != (8,) or value is None or value.any():
        return None
    before, after = amounts[:4], amounts[4:]
    if before[:2].any() or after[:2].any() or (amounts < 0).any():
        return None
    return [*map(int, before[2:]), *map(int, after[2:])]


def _is_positive(name: str, makers: dict[str, NodeProto], constants: dict[str, np.ndarray]) -> bool:
    maker = makers.get(name)
    if maker is None:
        return False
    if maker.op_type == "Clip" and len(maker.input) > 1 and maker.input[1] in constants:
        return bool(constants[maker.input[1]] >= 0)
    return maker.op_type == "Relu"


def _add(reader: NodeProto, amounts: list[int]) -> None:
    """Add to the padding that an operator does by itself."""
    own = next((entry for entry in reader.attribute if entry.name == "pads"), None)
    if own is None:
        reader.attribute.append(helper.make_attribute("pads", amounts))
    else:
        own.ints[:] = [a + b for a, b in zip(own.ints, amounts, strict=True)]
