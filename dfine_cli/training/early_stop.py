"""Patience: what happens when AP has not risen for a while.

The last phase trains on plain images and usually gains where the one before it has come to rest. So a run that
waits in vain before its last phase goes on to it, at the learning rate of that point of the schedule; one that
waits in vain inside the last phase ends. Waiting starts anew with the last phase.
"""

from dfine_cli.phases import Phase, Phases
from dfine_cli.training.state import Counters


class EarlyStop:
    """Decides after each scored epoch.

    Args:
        patience: Epochs without a better AP that are too many; 0: never.
        phases: Of the run.
        steps_per_epoch: Optimizer steps.
    """

    def __init__(self, patience: int, phases: Phases, steps_per_epoch: int) -> None:
        self.patience = patience
        self.phases = phases
        self.steps_per_epoch = steps_per_epoch

    def move_on(self, c: Counters) -> str | None:
        """Move epoch and step on if the patience is at its end; returns what to tell.

        Args:
            c: Counters after a scored epoch; ``epoch`` is the one to come.
        """
        last_phase = self.phases.first_epoch(Phase.REFINE)
        in_last_phase = c.epoch > last_phase
        since = max(c.best_epoch, last_phase - 1 if in_last_phase else -1)
        waited = c.epoch - 1 - since
        target = self.phases.epochs if in_last_phase else last_phase
        if not self.patience or waited < self.patience or c.epoch >= target:
            return None
        c.epoch, c.step = target, target * self.steps_per_epoch
        what = "the run ends" if target == self.phases.epochs else f"on to the last phase, epoch {target + 1}"
        return f"AP has not risen for {waited} epochs: {what}"
