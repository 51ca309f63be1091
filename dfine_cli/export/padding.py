"""Zeros around a map as an attribute of the operator that reads it, in place of an operator of their own."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

_ALIKE = {"Conv", "MaxPool"}
"""Operators with the attribute ``pads``. A convolution pads with zeros, a pooling with what is below everything."""


def fold_padding(model: ModelProto) -> None:
    """Let convolutions and poolings pad by themselves where that is exact, in place.

    A pooling may do so if nothing in its input is below zero, as after a ReLU.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    pads = {node.output[0]: node for node in model.graph.node if node.op_type == "Pad"}
    for reader in model.graph.node:
        pad = pads.get(reader.input[0]) if reader.op_type in _ALIKE else None
        if pad is None:
            continue
        amounts = _amounts(pad, constants)
        if amounts is None or (
            reader.op_type == "MaxPool" and not _is_positive(pad.input[0], makers, constants)
        ):
            continue
        _add(reader, amounts)
        reader.input[0] = pad.input[0]
    used = {name for node in model.graph.node for name in node.input}
    kept = [node for node in model.graph.node if node.op_type != "Pad" or node.output[0] in used]
    del model.graph.node[:]
    model.graph.node.extend(kept)


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
