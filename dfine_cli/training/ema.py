"""Exponential moving average of the weights, with a decay that is what it says at every step."""

import copy
import math
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import nn

from dfine_cli.config import schema

CONSTANTS = ("anchors", "valid_mask", "num_points_scale", "up", "reg_scale")
"""Entries that never change: averaging them would only add rounding. # published: averaged, and drift."""

Decay = Callable[[int], float]
"""Number of the update (counted from 1) to decay."""


def decay_of(ema: schema.Ema, total_steps: int) -> Decay:
    """The decay of each update in a run of ``total_steps`` optimizer steps.

    With ``share`` the time constant is that share of the run and, early on, of the steps done so far, so
    that the start weights are forgotten at any length of run. Without it the decay is the published
    ``decay * (1 - exp(-t / warmup_steps))``.
    """
    if ema.share is not None:
        longest, ramp = max(1.0, ema.share * total_steps), max(ema.share, 0.1)
        return lambda t: 1 - 1 / min(longest, 1 + ramp * t)
    if ema.warmup_steps:
        return lambda t: ema.decay * (1 - math.exp(-t / ema.warmup_steps))
    return lambda t: ema.decay


def start_share(decay: Decay, total_steps: int) -> float:
    """Share of the start weights left in the average after ``total_steps`` updates."""
    share = 1.0
    for t in range(1, total_steps + 1):
        share *= decay(t)
        if share < 1e-9:
            return 0.0
    return share


ModelT = TypeVar("ModelT", bound=nn.Module)


class Ema(Generic[ModelT]):
    """A copy of a model whose floating entries follow it slowly.

    Args:
        model: The model to follow.
        decay: Decay of each update.
    """

    def __init__(self, model: ModelT, decay: Decay) -> None:
        self.model: ModelT = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        self._pairs = _moving_pairs(self.model, model)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average one step towards the model: ``e + (1 - decay) * (v - e)``."""
        self.updates += 1
        averages, values = self._pairs
        torch._foreach_lerp_(averages, values, 1 - self.decay(self.updates))


def _moving_pairs(average: nn.Module, model: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Floating entries that training changes, in both models; a shared parameter once."""
    ours, theirs = average.state_dict(keep_vars=True), model.state_dict(keep_vars=True)
    moving = {
        id(v): (ours[k].detach(), v.detach())
        for k, v in theirs.items()
        if v.is_floating_point() and k.rpartition(".")[2] not in CONSTANTS
    }
    averages, values = zip(*moving.values(), strict=True)
    return list(averages), list(values)
