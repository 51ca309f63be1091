"""A run drawn before it starts: learning rate, phases and averaging over its steps."""

from dfine_cli.config import schema
from dfine_cli.phases import Phases
from dfine_cli.training.ema import decay_of, start_share
from dfine_cli.training.lr import lr_factor

WIDTH = 60
"""Columns of the drawing; the whole run is as long."""
_LEVELS = "▁▂▃▄▅▆▇█"


def draw(recipe: schema.Recipe, phases: Phases, steps_per_epoch: int) -> dict[str, str]:
    """Lines of a drawing by their label, all of ``WIDTH`` columns, and the averaging in words.

    Args:
        recipe: Schedule and averaging.
        phases: Of the run.
        steps_per_epoch: Optimizer steps.
    """
    total = phases.epochs * steps_per_epoch
    return {
        "rate": _rates(recipe.schedule, total),
        "phase": _segments(phases),
        "ema": _averaging(recipe.ema, total),
    }


def _rates(schedule: schema.Schedule, total: int) -> str:
    """Height of the learning rate in the middle of each column, as a share of the peak."""
    factors = [lr_factor(schedule, int((column + 0.5) / WIDTH * total), total) for column in range(WIDTH)]
    return "".join(_LEVELS[min(len(_LEVELS) - 1, int(f * len(_LEVELS)))] for f in factors)


def _segments(phases: Phases) -> str:
    """Each phase as wide as it is long, with as much of its name as there is room for."""
    drawn = ""
    for phase, _, end in phases.timeline():
        room = round(end / phases.epochs * WIDTH) - len(drawn)
        drawn += f"|{phase.value} ".ljust(room, "-")[:room]
    return drawn


def _averaging(ema: schema.Ema, total: int) -> str:
    decay = decay_of(ema, total)
    steps = 1 / (1 - decay(total))
    left = start_share(decay, total)
    return (
        f"averages over about the last {steps:.0f} steps; {left:.1%} of the start weights are left at the end"
    )
