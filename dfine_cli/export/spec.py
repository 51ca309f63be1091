"""What an exported graph is to be: contract, sizes, batch, operator set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dfine_cli.artefact import BatchRange, Contract
from dfine_cli.errors import UsageError
from dfine_cli.types import Size

Sampling = Literal["auto", "grid", "gather"]
"""How the deformable attention reads the maps: with GridSample, or with arithmetic and Gather. ``auto`` is what is
quicker on a CPU, where both are right: GridSample for N, Gather for all others."""

OPSETS = (16, 17, 18, 19)
"""Operator sets that can be written. 20 renames the modes of GridSample, which TensorRT then reads wrongly."""

ONE_IMAGE = BatchRange(1, 1, 1)


@dataclass(frozen=True)
class GraphSpec:
    """Choices that shape the graph.

    Attributes:
        input_size: (height, width) in pixels, multiples of 32.
        contract: See ``artefact.Contract``.
        batch: Images in one pass.
        opset: One of ``OPSETS``.
        sampling: See ``Sampling``.
    """

    input_size: Size
    contract: Contract = "published"
    batch: BatchRange = ONE_IMAGE
    opset: int = 17
    sampling: Sampling = "auto"

    def __post_init__(self) -> None:
        """Refuse an operator set that cannot be written."""
        if self.opset not in OPSETS:
            raise UsageError(
                f"--opset {self.opset}: must be one of {', '.join(map(str, OPSETS))}",
                "17 suits TensorRT, OpenVINO and ONNX Runtime",
            )


def parse_batch(text: str) -> BatchRange:
    """``1``, or ``1,4,16``: the least, the usual and the most images in one pass.

    Raises:
        UsageError: It is neither.
    """
    words = text.replace(" ", "").split(",")
    numbers = [int(word) for word in words if re.fullmatch(r"[0-9]{1,4}", word)]
    if (
        len(numbers) == len(words)
        and len(words) in (1, 3)
        and min(numbers) > 0
        and numbers == sorted(numbers)
    ):
        return BatchRange(numbers[0], numbers[len(numbers) // 2], numbers[-1])
    raise UsageError(
        f"--batch {text}: must be one number of images, or least,usual,most in ascending order",
        "for example 1 or 1,4,16",
    )
