"""What a run minimises: the loop sums objectives and does not know what they are."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dfine_cli.losses.criterion import Criterion
from dfine_cli.types import Batch, ModelOutput


class Objective:
    """A source of loss terms; every method but ``losses`` may stay as it is."""

    def trainable(self) -> Iterable[nn.Parameter]:
        """Parameters of its own that the optimizer trains, always in the same order."""
        return ()

    def losses(self, batch: Batch, outputs: ModelOutput) -> dict[str, Tensor]:
        """Weighted scalar terms by name; the total is their sum."""
        raise NotImplementedError

    def after_backward(self, model: nn.Module) -> None:
        """See the gradients of a step, before clipping."""

    def end_epoch(self) -> dict[str, float]:
        """Adapt at the end of an epoch; the values returned are logged."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors and plain values to resume from; as it is, the parameters of ``trainable``."""
        return {str(i): p.detach() for i, p in enumerate(self.trainable())}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave."""
        for i, parameter in enumerate(self.trainable()):
            parameter.copy_(state[str(i)])


class Detection(Objective):
    """The usual objective: D-FINE's criterion."""

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion

    def losses(self, batch: Batch, outputs: ModelOutput) -> dict[str, Tensor]:
        """Every weighted term of the criterion, in float32 whatever the model ran in."""
        with torch.autocast(batch.images.device.type, enabled=False):
            return self.criterion(outputs, batch.targets)


def own_parameters(objectives: Sequence[Objective], device: torch.device) -> list[nn.Parameter]:
    """What the objectives train beside the model, moved to ``device``."""
    parameters = [p for objective in objectives for p in objective.trainable()]
    for parameter in parameters:
        parameter.data = parameter.data.to(device)
    return parameters
