"""Learning-rate factor of an optimizer step: pure functions of the step number."""

import math
from collections.abc import Callable

from dfine_cli.config.schema import Schedule


def warmup_steps(schedule: Schedule, total_steps: int) -> int:
    """Optimizer steps of linear warm-up in a run of ``total_steps``."""
    if schedule.warmup_share is None:
        return schedule.warmup_steps
    return round(schedule.warmup_share * total_steps)


def constant(progress: float, final: float) -> float:
    """The published schedule: 1 until the end."""
    return 1.0


def cosine(progress: float, final: float) -> float:
    """Half a cosine from 1 to ``final`` while ``progress`` goes from 0 to 1."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


CURVES: dict[str, Callable[[float, float], float]] = {"constant": constant, "cosine": cosine}


def lr_factor(schedule: Schedule, step: int, total_steps: int) -> float:
    """Factor on every group's learning rate for optimizer step ``step`` (counted from 0).

    The warm-up is linear, ``(step + 1) / warm-up``; the curve then runs over the remaining steps.
    """
    warmup = warmup_steps(schedule, total_steps)
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    progress = max(0, step + 1 - warmup) / max(1, total_steps - warmup)
    return rise * CURVES[schedule.curve](progress, schedule.final_lr)
