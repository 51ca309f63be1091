"""Running means of loss terms, summed on the device and read only when asked for."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Mean:
    """Means of named scalars; values that are not finite are left out."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take one value for each name."""
        names, vector = tuple(values), torch.stack(list(values.values())).double()
        finite = torch.isfinite(vector)
        pair = torch.stack((vector.where(finite, torch.zeros_like(vector)), finite.double()))
        self._sums[names] = self._sums[names] + pair if names in self._sums else pair

    def values(self) -> dict[str, float]:
        """The means so far, NaN where no value was finite."""
        return {
            name: total / count if count else torch.nan for name, (total, count) in self.state_dict().items()
        }

    def state_dict(self) -> dict[str, list[float]]:
        """Sum and count of each name, plain values for a checkpoint."""
        merged: dict[str, list[float]] = {}
        for names, pair in self._sums.items():
            for name, total, count in zip(names, *pair.tolist(), strict=True):
                before = merged.setdefault(name, [0.0, 0.0])
                merged[name] = [before[0] + total, before[1] + count]
        return merged

    def load_state_dict(self, saved: Mapping[str, list[float]]) -> None:
        """Go on from what ``state_dict`` gave."""
        self._sums = {
            (name,): torch.tensor(pair, dtype=torch.float64)[:, None] for name, pair in saved.items()
        }
