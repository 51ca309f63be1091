"""JSON that every reader takes: what is not a number is null, where Python would write ``NaN``."""

import json
import math
from typing import Any


def dumps(values: Any, indent: int | None = None) -> str:
    """``values`` as JSON text; paths and other objects as their text.

    Args:
        values: Mappings, lists, texts and numbers.
        indent: Spaces of a level; None writes one line.
    """
    return json.dumps(_finite(values), indent=indent, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
