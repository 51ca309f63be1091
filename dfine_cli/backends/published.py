"""The detector in published weights, or in any other layout that the zoo reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from dfine_cli.backends.torch_backend import TorchDetector, choose_device, open_checkpoint
from dfine_cli.errors import UsageError
from dfine_cli.tensor_file import require_finite
from dfine_cli.zoo.build import build_detector, class_map, warnings_of
from dfine_cli.zoo.open import open_weights


def open_published(
    name_or_path: str | Path,
    device: str | torch.device = "auto",
    warn: Callable[[str], None] = lambda _: None,
) -> TorchDetector:
    """The detector behind a name of the zoo, a file of weights or a folder of Hugging Face's layout.

    Args:
        name_or_path: As ``open_weights`` takes it.
        device: See ``OpenOptions``.
        warn: Told what is left out of the weights, and what is assumed of them.

    Raises:
        UsageError: No such name or file, no weights of a D-FINE, or a backbone alone.
        CheckError: Something is missing or of another shape.
        DfineError: It cannot be downloaded or read.
        MissingError: There is no such device.
    """
    target = device if isinstance(device, torch.device) else choose_device(device)
    weights = open_weights(name_or_path)
    if weights.layout == "checkpoint":  # which also says how its images were read
        return open_checkpoint(weights.path, target)
    if weights.is_backbone:
        raise UsageError(f"{name_or_path}: a backbone alone detects nothing", "use the weights of a detector")
    model = build_detector(weights)
    require_finite(weights.state, name_or_path)
    for text in warnings_of(weights):
        warn(text)
    return TorchDetector(
        model.to(target), class_map(weights), weights.input_size, target, f"dfine-{weights.size}"
    )
