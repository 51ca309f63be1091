"""The training loop: fit, train_epoch, train_step. Read top to bottom."""

import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from dfine_cli.config.schema import Recipe
from dfine_cli.data.loader import TrainLoader
from dfine_cli.errors import Interrupted
from dfine_cli.phases import Phases
from dfine_cli.training.clock import Clock
from dfine_cli.training.guard import Guard, heal_buffers
from dfine_cli.training.interrupt import Stop, StopRequest
from dfine_cli.training.keeper import Keeper
from dfine_cli.training.lr import lr_factor
from dfine_cli.training.mean import Mean
from dfine_cli.training.monitor import Monitor, Row, StepReport
from dfine_cli.training.optimizer import accumulation
from dfine_cli.training.precision import Precision
from dfine_cli.training.state import TrainState
from dfine_cli.types import Batch, Target

Score = Callable[[TrainState], Row]
"""Evaluate a state: ``ap`` (the better of averaged and raw weights) and its parts; empty without val data."""


@dataclass(frozen=True)
class Plan:
    """What stays the same through a run."""

    recipe: Recipe
    phases: Phases
    steps_per_epoch: int
    device: torch.device
    precision: Precision

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.phases.epochs

    def is_scored(self, epoch: int) -> bool:
        """Whether the weights are evaluated after ``epoch``."""
        return (epoch + 1) % self.recipe.evaluation.every == 0 or epoch + 1 == self.phases.epochs


@dataclass
class Tools:
    """What works around the loop."""

    loader: TrainLoader
    score: Score
    keeper: Keeper
    guard: Guard
    clock: Clock
    monitor: Monitor
    stop: StopRequest


def fit(state: TrainState, plan: Plan, tools: Tools) -> list[Row]:
    """Train to the end of the plan; returns the rows of the epochs done now.

    Raises:
        DfineError: The weights are no longer finite.
        Interrupted: Somebody asked the run to end; it is saved after its last step, trained epochs that are not
            scored yet included.
    """
    rows = []
    try:
        while state.counters.epoch < plan.phases.epochs:
            tools.keeper.begin_epoch(state)
            row = train_epoch(state, plan, tools)
            tools.keeper.refuse_diverged(state)
            if plan.is_scored(state.counters.epoch):
                started = time.perf_counter()
                row |= tools.score(state)
                tools.clock.scored(time.perf_counter() - started)
            state.means = Mean()
            row |= {k: v for o in state.objectives for k, v in o.end_epoch().items()}
            # Told before it is saved: a row too many is left out when resuming, none is missing.
            tools.monitor.epoch(row)
            tools.keeper.end_epoch(state, row)
            rows.append(row)
    except Stop:
        tools.keeper.refuse_diverged(state)
        c = state.counters
        tools.keeper.save_last(state, {"epoch": c.epoch + 1, "step": c.step, "interrupted": True})
        raise Interrupted(
            f"stopped after step {c.step} of {plan.total_steps}; everything is saved",
            f"go on with: dfine train --resume {shlex.quote(str(tools.keeper.run.path))}",
        ) from None
    return rows


def train_epoch(state: TrainState, plan: Plan, tools: Tools) -> Row:
    """One pass over the training data, from where the counters are."""
    c, phase = state.counters, plan.phases.at(state.counters.epoch)
    state.train_mode()
    tools.clock.start_epoch()
    batches = tools.loader.epoch(c.epoch, phase, start=c.batch)
    for group in groups(tools.clock.waits(batches), accumulation(plan.recipe.optim)):
        started = time.perf_counter()
        set_lr(state, plan)
        losses = train_step(state, plan, tools.guard, [to_device(b, plan.device) for b in group])
        state.means.add(losses)
        c.batch += len(group)
        c.step += 1
        tools.clock.step(time.perf_counter() - started, sum(len(b.images) for b in group))
        tools.monitor.step(report(state, plan, tools.clock))
        tools.stop.check()
    terms = state.means.values()
    return {
        "epoch": c.epoch + 1,
        "step": c.step,
        "phase": phase.value,
        "lr": highest_lr(state),
        "loss": terms.pop("loss"),
        "images_per_s": round(tools.clock.images_per_s, 2),
        "wait_share": round(tools.clock.wait_share, 4),
        "memory_mb": round(tools.clock.memory_mb()),
        "skipped": c.skipped,
        "terms": terms,
    }


def train_step(state: TrainState, plan: Plan, guard: Guard, batches: list[Batch]) -> dict[str, Tensor]:
    """Forward, losses, backward, clip, update, average: one optimizer step over one or more batches."""
    losses: dict[str, Tensor] = {}
    for batch in batches:
        with plan.precision.autocast():
            outputs = state.model(batch.images, batch.targets)
        losses = {k: v for o in state.objectives for k, v in o.losses(batch, outputs).items()}
        total = torch.stack(list(losses.values())).sum() / len(batches)
        state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        losses["loss"] = total.detach() * len(batches)
    for objective in state.objectives:
        objective.after_backward(state.model)
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.clip_grad_norm_(
        trained_parameters(state), plan.recipe.optim.clip_norm or torch.inf, foreach=True
    )
    if guard.passes(losses["loss"], norm, batches, state.counters.step, scaled=state.scaler.is_enabled()):
        state.scaler.step(state.optimizer)
        state.ema.update()
    else:
        heal_buffers(state.model, state.ema.model)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.counters.skipped = guard.skipped
    return {k: v.detach() for k, v in losses.items()}


def set_lr(state: TrainState, plan: Plan) -> None:
    """Set every group's rate for the step to come."""
    factor = lr_factor(plan.recipe.schedule, state.counters.step, plan.total_steps)
    for group in state.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def highest_lr(state: TrainState) -> float:
    """Highest learning rate of the last step."""
    return max(float(group["lr"]) for group in state.optimizer.param_groups)


def trained_parameters(state: TrainState) -> list[nn.Parameter]:
    """Parameters in the order of the optimizer's groups."""
    return [p for group in state.optimizer.param_groups for p in group["params"]]


def report(state: TrainState, plan: Plan, clock: Clock) -> StepReport:
    """Where the run is now."""
    c = state.counters
    scorings = sum(plan.is_scored(e) for e in range(c.epoch, plan.phases.epochs))
    return StepReport(
        epoch=c.epoch + 1,
        epochs=plan.phases.epochs,
        step=c.step,
        total_steps=plan.total_steps,
        read_loss=lambda: state.means.values()["loss"],
        lr=highest_lr(state),
        images_per_s=clock.images_per_s,
        wait_share=clock.wait_share,
        memory_mb=clock.memory_mb(),
        seconds_left=clock.seconds_left(plan.total_steps - c.step, scorings),
    )


def groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Batches in lists of ``size``, the last one shorter."""
    source = iter(batches)
    while group := list(islice(source, size)):
        yield group


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on ``device``, images in [0, 1] and channels last; copied as bytes, and aside if pinned."""
    targets = [
        Target(
            t.labels.to(device, non_blocking=True),
            t.boxes.to(device, non_blocking=True),
            t.image_id,
            t.original_size,
        )
        for t in batch.targets
    ]
    images = batch.images.to(device, non_blocking=True, memory_format=torch.channels_last)
    return Batch(images if images.is_floating_point() else images.float().div_(255), targets)
