"""Steps that are not finite: skipped, counted, kept for inspection, and a plain stop when they do not end."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dfine_cli.errors import DfineError
from dfine_cli.tensor_file import save_plain
from dfine_cli.types import Batch

KEPT = 3
"""Batches kept on disk in a run."""
IN_A_ROW = 20
"""Bad steps in a row that end the run."""


class Guard:
    """Watches losses and gradients.

    Args:
        folder: Where offending batches are kept.
        skipped: Steps skipped before, in a run that is resumed.
    """

    def __init__(self, folder: Path, skipped: int = 0) -> None:
        self.folder = folder
        self.skipped = skipped
        self._in_a_row = 0

    def passes(
        self, loss: Tensor, norm: Tensor, batches: Sequence[Batch], step: int, *, scaled: bool = False
    ) -> bool:
        """Whether the step may be taken. This is the step's one look at a device value.

        Args:
            loss: Total loss, scalar.
            norm: Gradient norm before clipping, scalar.
            batches: What the step was made from.
            step: Its number, for the file name.
            scaled: Gradients were scaled for float16, so an overflow is the scaler's to handle and no fault.

        Raises:
            DfineError: ``IN_A_ROW`` steps in a row were not finite.
        """
        if bool(torch.isfinite(loss) & torch.isfinite(norm)):
            self._in_a_row = 0
            return True
        if scaled and bool(torch.isfinite(loss)):
            return False
        self.skipped += 1
        self._in_a_row += 1
        if self.skipped <= KEPT:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_plain([_plain(b) for b in batches], self.folder / f"step-{step}.pt")
        if self._in_a_row >= IN_A_ROW:
            raise DfineError(
                f"{IN_A_ROW} steps in a row gave a loss or gradient that is not finite (step {step}); "
                f"the first batches are in {self.folder}",
                "lower optim.lr, or turn mixed precision off with --set optim.amp=off",
            )
        return False


def diverged(epoch: int, what: str, lr: float) -> DfineError:
    """The end of a run whose numbers have grown beyond all bounds.

    Args:
        epoch: Counted from 1.
        what: What is no longer finite.
        lr: ``optim.lr``.
    """
    return DfineError(
        f"the run has diverged in epoch {epoch}: {what} are no longer finite",
        f"lower optim.lr, which is {lr:g}; what was saved before is as it was",
    )


def _plain(batch: Batch) -> dict[str, object]:
    return {
        "images": batch.images.cpu(),
        "targets": [
            {"image_id": t.image_id, "labels": t.labels.cpu(), "boxes": t.boxes.cpu()} for t in batch.targets
        ],
    }


@torch.no_grad()
def heal_buffers(model: nn.Module, healthy: nn.Module) -> None:
    """Replace running statistics that a bad forward pass spoilt by those of ``healthy``."""
    good = dict(healthy.named_buffers())
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and name.endswith(("running_mean", "running_var")):
            torch.where(torch.isfinite(buffer), buffer, good[name], out=buffer)
