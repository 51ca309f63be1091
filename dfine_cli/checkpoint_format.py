"""Names and version of what a checkpoint holds: the one home that its writer and its readers share.

A checkpoint is a mapping of tensors and plain values, so it is read with ``weights_only=True``.
"""

from pathlib import Path
from typing import Any, Final

from dfine_cli.errors import CheckError

FORMAT: Final = 1
"""Version of the format that is written and read."""

FORMAT_KEY: Final = "format"
"""Holds ``FORMAT`` of the writer."""

# What a detector needs.
MODEL: Final = "model"
"""State dict of the trained weights."""
EMA: Final = "ema"
"""State dict of the averaged weights."""
BEST_WEIGHTS: Final = "best_weights"
"""Which of the two to use, by key: ``MODEL`` or ``EMA``."""
SIZE: Final = "size"
"""Model size, ``n`` to ``x``."""
CLASSES: Final = "classes"
"""``ClassMap.to_dict()``."""
RECIPE: Final = "recipe"
"""The resolved recipe as JSON values."""
METRICS: Final = "metrics"
"""The row of the epoch that was saved."""
VERSIONS: Final = "versions"
"""Versions of what wrote the file."""

# What an evaluation may add.
OPERATING_POINT: Final = "operating_point"
"""``threshold`` with the best F1 at IoU 0.50, its ``precision``, ``recall`` and ``f1``, ``classes`` (a threshold or
None per class index), ``annotations`` (the file it was found on). Absent until an evaluation stores it."""

# What resuming needs as well.
OPTIMIZER: Final = "optimizer"
SCALER: Final = "scaler"
OBJECTIVES: Final = "objectives"
COUNTERS: Final = "counters"
MEANS = "means"
"""Sums of the loss terms of the epoch in progress."""
RANDOM: Final = "random"


def check_format(path: Path, content: object) -> dict[str, Any]:
    """``content``, which was read from ``path``, as a checkpoint of the format of this version.

    Raises:
        CheckError: It is of another tool or of another version of the format.
    """
    if not isinstance(content, dict) or FORMAT_KEY not in content:
        raise CheckError(f"{path}: a checkpoint of another tool", "use a file written by `dfine train`")
    if content[FORMAT_KEY] != FORMAT:
        raise CheckError(
            f"{path}: checkpoint format {content[FORMAT_KEY]}, this version reads format {FORMAT}",
            "update dfine-cli, or use the version that wrote the file",
        )
    return content
