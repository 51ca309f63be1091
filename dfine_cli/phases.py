"""The only place that turns fractions of a run into epochs.

A run is cut into up to four phases, in this order; each may be empty::

    WARM    [0, warm_until)            no augmentation beyond flips
    DENSE   [warm_until, dense_until)  mosaic and mixup beside the usual pipeline
    PLAIN   [dense_until, refine_from) the usual pipeline
    REFINE  [refine_from, 1]           no augmentation, no multi-scale, best weights so far reloaded
                                       if the recipe says so
"""

from dataclasses import dataclass
from enum import Enum


class Phase(str, Enum):
    """Name of a part of the run; what it means for the data is in ``data.augment``."""

    WARM = "warm"
    DENSE = "dense"
    PLAIN = "plain"
    REFINE = "refine"


@dataclass(frozen=True)
class Phases:
    """Epochs of each phase.

    Args:
        epochs: Length of the run.
        warm_until: End of WARM as a fraction of the run.
        dense_until: End of DENSE as a fraction of the run.
        refine_from: Start of REFINE as a fraction of the run.
    """

    epochs: int
    warm_until: float = 0.0
    dense_until: float = 0.0
    refine_from: float = 1.0

    def first_epoch(self, phase: Phase) -> int:
        """First epoch (counted from 0) of ``phase``; equals ``epochs`` if it is empty at the end."""
        start = {
            Phase.WARM: 0.0,
            Phase.DENSE: self.warm_until,
            Phase.PLAIN: max(self.warm_until, self.dense_until),
            Phase.REFINE: self.refine_from,
        }[phase]
        return round(start * self.epochs)

    def at(self, epoch: int) -> Phase:
        """The phase of ``epoch`` (counted from 0)."""
        for phase in (Phase.REFINE, Phase.PLAIN, Phase.DENSE):
            if epoch >= self.first_epoch(phase):
                return phase
        return Phase.WARM

    def starts(self, epoch: int) -> bool:
        """Whether ``epoch`` is the first of its phase."""
        return epoch == 0 or self.at(epoch) is not self.at(epoch - 1)

    def timeline(self) -> list[tuple[Phase, int, int]]:
        """(phase, first epoch, epoch after the last) of the phases that are not empty, in order."""
        starts = [e for e in range(self.epochs) if self.starts(e)]
        return [
            (self.at(first), first, end)
            for first, end in zip(starts, [*starts[1:], self.epochs], strict=True)
        ]
