"""Which types the layers of a finished TensorRT engine compute in, as its inspector tells."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from types import ModuleType
from typing import Any

TYPES = {
    "fp16": r"half|fp16|float16",
    "bf16": r"bf16|bfloat16",
    "fp8": r"fp8",
    "int8": r"int8",
    "fp32": r"float|fp32",
    "int64": r"int64",
    "int32": r"int32",
    "bool": r"bool",
}
"""Name of each type here and how an inspector writes it: ``Half``, or inside of a phrase on the layout."""
FLOATS = ("fp32", "fp16", "bf16", "fp8", "int8")
"""Types that a precision is told by; the others are indices and masks."""
_FIELDS = ("Format/Datatype", "DataType", "Datatype")
"""Where the type of a tensor is: TensorRT 10 has one entry for layout and type, 11 may have two."""


def count_layer_types(engine: Any, trt: ModuleType) -> dict[str, int]:
    """Layers by the type of their first output, most frequent first; empty if the engine keeps no details."""
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return parse_layer_types(text)


def parse_layer_types(text: str) -> dict[str, int]:
    """The same from what the inspector gave; layers of no or an unknown type count as ``other``."""
    try:
        layers = json.loads(text)["Layers"]
    except (
        ValueError,
        KeyError,
        TypeError,
    ):  # a release that writes it otherwise: nothing is known, nothing wrong
        return {}
    found = Counter(_type_of(layer) for layer in layers if isinstance(layer, Mapping))
    return dict(found.most_common())


def describe_layer_types(counts: Mapping[str, int]) -> str:
    """Shares of the layers that compute with numbers, such as ``fp16 81%, fp32 19%``; empty if none is known."""
    numbers = {name: counts[name] for name in counts if name in FLOATS}
    total = sum(numbers.values())
    return ", ".join(f"{name} {count / total:.0%}" for name, count in numbers.items())


def _type_of(layer: Mapping[str, Any]) -> str:
    tensors = [*layer.get("Outputs", []), *layer.get("Inputs", [])]
    for tensor in tensors[:1]:
        words = next((str(tensor[name]) for name in _FIELDS if name in tensor), "").lower()
        for name, pattern in TYPES.items():
            if re.search(rf"\b(?:{pattern})\b", words):
                return name
    return "other"
