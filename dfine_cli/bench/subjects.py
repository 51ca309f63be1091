"""What the words on the command line mean: files, sizes, a time to keep within."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from dfine_cli.backends.detector import find_weights
from dfine_cli.bench.runner import Subject
from dfine_cli.errors import UsageError
from dfine_cli.model.sizes import SIZES
from dfine_cli.model.weights import looks_like_name

_UNITS_MS = {"": 1.0, "ms": 1.0, "us": 1e-3, "s": 1e3}


def find_subject(text: str) -> Subject:
    """The file, run folder or size that ``text`` names; a size counts before a file of the same name.

    Raises:
        UsageError: There is nothing of that name.
    """
    if text.lower() in SIZES:
        return Subject(text, None, text.lower())
    path = Path(text)
    if not path.exists():
        size = text.lower().partition("/")[0]
        if looks_like_name(text):
            raise UsageError(
                f"{text}: weights are not measured, sizes are", f"their latency is that of `{size}`"
            )
        names = [beside.name for beside in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        meant = (
            f"did you mean {path.with_name(near[0])}?"
            if near
            else "give a checkpoint, a run folder or an exported file"
        )
        raise UsageError(f"{text}: no such file, and no size ({', '.join(SIZES)})", meant)
    return Subject(text, find_weights(path), None)


def parse_budget(text: str) -> float:
    """Milliseconds of a budget such as ``5ms``, ``0.02s`` or ``5`` (milliseconds).

    Raises:
        UsageError: It is no time, or none that is greater than zero.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", text.strip().lower())
    if not found or found[2] not in _UNITS_MS or float(found[1]) <= 0:
        raise UsageError(f"--budget {text}: not a time", "for example 5ms, 0.02s or 800us")
    return float(found[1]) * _UNITS_MS[found[2]]


def parse_batches(text: str) -> tuple[int, ...]:
    """Batch sizes such as ``1`` or ``1,4,16``, without repetitions, in the order given.

    Raises:
        UsageError: One is not a number of images.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() and int(word) > 0 for word in words):
        raise UsageError(f"--batch {text}: must be numbers of images", "for example 1 or 1,4,16")
    return tuple(dict.fromkeys(map(int, words)))
