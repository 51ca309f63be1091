"""The published latencies of D-FINE, their conditions, and what sets a measurement apart from them."""

from __future__ import annotations

import re

from dfine_cli.model.sizes import SIZES
from dfine_cli.model.weights import WEIGHTS
from dfine_cli.types import Size

_ENTRIES = {size: WEIGHTS[f"{size}/coco"] for size in SIZES}
LATENCY_MS = {size: entry.latency_ms for size, entry in _ENTRIES.items() if entry.latency_ms is not None}
"""Published milliseconds an image by size."""
AP = {size: entry.ap for size, entry in _ENTRIES.items() if entry.ap is not None}
"""Published AP in percent on COCO val2017, trained on COCO alone; measured in PyTorch, not with the engine."""
INPUT_SIZE: Size = (640, 640)
NUM_CLASSES = 80
CONDITIONS = {
    "backend": "tensorrt",
    "precision": "fp16",
    "input size": f"{INPUT_SIZE[0]}x{INPUT_SIZE[1]}",
    "batch": "1",
    "protocol": "published",
}
"""How the table was measured, on one T4 with TensorRT 10.4."""
SOURCE = "D-FINE README: T4, TensorRT 10.4, FP16, batch 1, 640x640, mean of 1000 passes after 1000 warm-ups"


def is_t4(gpu_name: str | None) -> bool:
    """Whether a GPU of this name is a T4 (not a T400, not a T4G)."""
    return gpu_name is not None and re.search(r"\bT4\b", gpu_name) is not None


def built_in(types: str) -> str:
    """What an engine was built in, from the types of its layers: ``fp16`` for ``fp16 81%, fp32 19%``.

    The published engines were allowed half precision and kept single where TensorRT thought it quicker, or had no
    kernel; their shares are not published. Any other text is given back.
    """
    names = {word.split()[0] for word in types.split(", ")}
    return "fp16" if "fp16" in names and names <= {"fp16", "fp32"} else types


def differences(conditions: dict[str, str]) -> list[str]:
    """What of ``CONDITIONS`` a measurement does otherwise, as ``what: theirs, here ours``."""
    return [
        f"{what}: {theirs}, here {conditions[what]}"
        for what, theirs in CONDITIONS.items()
        if conditions[what] != theirs
    ]
