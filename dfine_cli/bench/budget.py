"""The largest size that keeps within a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dfine_cli.model.sizes import SIZES


class Fit(NamedTuple):
    """What was tried for a budget."""

    budget_ms: float
    tried: dict[str, float]
    """Milliseconds of each size tried, small to large."""
    size: str | None
    """The largest that fits; None if not even the smallest does."""


def fit_budget(budget_ms: float, measure: Callable[[str], float], sizes: Iterable[str] = tuple(SIZES)) -> Fit:
    """Try sizes from small to large until one is too slow.

    Args:
        budget_ms: Milliseconds that an image may take.
        measure: Milliseconds of a size.
        sizes: Names, small to large.
    """
    tried: dict[str, float] = {}
    fitting: str | None = None
    for size in sizes:
        tried[size] = measure(size)
        if tried[size] > budget_ms:
            break
        fitting = size
    return Fit(budget_ms, tried, fitting)
