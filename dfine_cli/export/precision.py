"""The precisions that a graph can be exported in, each a function from the graph in single precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto

from dfine_cli.export.half import to_half
from dfine_cli.export.islands import ISLANDS
from dfine_cli.export.quantise import CalibrationImages, quantise
from dfine_cli.export.shares import count_types


@dataclass(frozen=True)
class Converted:
    """A graph in the precision that was asked for, and what is known about it.

    Attributes:
        model: The graph; inputs and outputs are those of the graph that it was made from.
        islands: Parts that stayed in single precision, with the reason of each: ``Artefact.islands``.
        found: Shares of nodes and weights by type: ``Artefact.precision_found``.
    """

    model: ModelProto
    islands: dict[str, str]
    found: dict[str, Any]


def _fp32(model: ModelProto, images: CalibrationImages | None) -> tuple[ModelProto, dict[str, str]]:
    return model, {}


def _fp16(model: ModelProto, images: CalibrationImages | None) -> tuple[ModelProto, dict[str, str]]:
    half, members = to_half(model)
    return half, {island.name: island.reason for island in ISLANDS if island.name in members}


PRECISIONS: dict[str, Callable[[ModelProto, CalibrationImages | None], tuple[ModelProto, dict[str, str]]]] = {
    "fp32": _fp32,
    "fp16": _fp16,
    "int8": quantise,
}
"""Name of a precision to what writes it into a graph, and says which parts it left alone and why."""


def convert(model: ModelProto, precision: str, images: CalibrationImages | None = None) -> Converted:
    """The graph in a precision.

    Args:
        model: The graph in single precision, as exported; it is not changed.
        precision: Key of ``PRECISIONS``.
        images: What ``int8`` is calibrated on; the others do not look at them.

    Raises:
        UsageError: ``fp16`` of an operator set without layer normalisation, ``int8`` without images.
        DfineError: The graph branches, or an image cannot be read.
    """
    converted, islands = PRECISIONS[precision](model, images)
    return Converted(converted, islands, count_types(converted))
