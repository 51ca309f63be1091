"""The composition root: a recipe becomes objects, and the objects a trained detector.

The only file that asks whether a part of the recipe is set.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from dfine_cli.backends.torch_backend import build_described, choose_device
from dfine_cli.config.schema import Recipe
from dfine_cli.data.loader import TrainLoader
from dfine_cli.errors import UsageError
from dfine_cli.losses.criterion import build_criterion
from dfine_cli.model.dfine import DFINE
from dfine_cli.model.sizes import SIZES
from dfine_cli.phases import Phases
from dfine_cli.training import checkpoint
from dfine_cli.training.clock import Clock
from dfine_cli.training.curves import write_curves
from dfine_cli.training.dataset import TrainingData, open_data
from dfine_cli.training.early_stop import EarlyStop
from dfine_cli.training.ema import Ema, decay_of, start_share
from dfine_cli.training.freeze import FROZEN, freeze
from dfine_cli.training.guard import Guard
from dfine_cli.training.interrupt import stop_on_signal
from dfine_cli.training.keeper import Keeper
from dfine_cli.training.loop import Plan, Tools, fit, to_device, train_step
from dfine_cli.training.lr import warmup_steps
from dfine_cli.training.memory import keep_freed_blocks
from dfine_cli.training.monitor import Monitor, Row
from dfine_cli.training.objective import Detection, Objective, own_parameters
from dfine_cli.training.optimizer import accumulation, build_optimizer, effective_batch, lr_scale
from dfine_cli.training.precision import choose_precision
from dfine_cli.training.run_dir import RunDir
from dfine_cli.training.score import Scorer
from dfine_cli.training.sinks import Recorder, Sink, need_tensorboard, open_tensorboard
from dfine_cli.training.start import StartReport, start_model
from dfine_cli.training.state import TrainState
from dfine_cli.training.timeline import draw

MOST_START_WEIGHTS = 0.1
"""Largest share of the start weights that the average may still hold at the end of a run."""


@dataclass(frozen=True)
class RunResult:
    """What a run leaves."""

    folder: Path
    best: Path
    """The best weights; the last ones where somebody took those away."""
    rows: list[Row]
    start: StartReport | None = None
    """What it began with; None from scratch and where it was resumed."""
    has_best: bool = True
    """Whether ``best`` are the best weights."""

    @property
    def best_row(self) -> Row:
        """Row of the epoch that ``best`` holds; the last one where nothing was scored."""
        scored = [r for r in self.rows if "ap" in r]
        return max(scored, key=lambda r: float(r["ap"])) if scored else (self.rows or [{}])[-1]


@dataclass
class Setup:
    """A recipe as objects, before the first step."""

    recipe: Recipe
    data: TrainingData
    loader: TrainLoader
    plan: Plan
    state: TrainState
    start: StartReport | None

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train, in a run that is resumed."""
        return self.state.counters.epoch >= self.plan.phases.epochs

    def facts(self) -> dict[str, str]:
        """What the run consists of, in words, for the start of the log."""
        optim, plan = self.recipe.optim, self.plan
        trained = sum(p.numel() for p in self.state.model.parameters() if p.requires_grad)
        timeline = ", ".join(f"{p.value} {a + 1}-{b}" for p, a, b in plan.phases.timeline())
        peaks = {
            "backbone" if group["name"].startswith("backbone") else "rest": group["peak_lr"]
            for group in self.state.optimizer.param_groups
            if group["params"]  # frozen parts leave theirs empty
        }
        rates = ", ".join(f"{part} {rate:.3g}" for part, rate in peaks.items())
        options = {}
        if frozen := FROZEN[self.recipe.start.freeze]:
            options["frozen"] = ", ".join(frozen)
        if patience := self.recipe.schedule.early_stop:
            options["early stop"] = f"after {patience} epochs without a better AP"
        return {
            "model": f"D-FINE-{self.recipe.size.upper()}, {trained / 1e6:.2f} M trained parameters",
            "classes": f"{len(self.data.classes)} ({self.data.classes.rule}): {', '.join(self.data.classes.names[:8])}",
            "data": f"{len(self.data.train)} training images, "
            + (f"{len(self.data.val)} validation images" if self.data.val else "no validation set"),
            "input": "x".join(map(str, self.recipe.data.input_size)) + " (height x width)",
            "device": f"{plan.device}, {str(plan.precision.dtype).removeprefix('torch.')}",
            "steps": f"{plan.total_steps} optimizer steps: {plan.phases.epochs} epochs of {plan.steps_per_epoch}, "
            f"{warmup_steps(self.recipe.schedule, plan.total_steps)} of warm-up",
            "phases": f"{timeline} (epochs)",
            "batch": f"{effective_batch(optim)} = {optim.batch} x {accumulation(optim)}",
            "lr": f"{rates} (scaled by {lr_scale(optim):.3g} for the batch), {self.recipe.schedule.curve}",
            **options,
            **draw(self.recipe, plan.phases, plan.steps_per_epoch),
        }


def set_up(
    recipe: Recipe, monitor: Monitor, objectives: Sequence[Objective] = (), *, start: bool = True
) -> Setup:
    """Build everything that a run needs and check that it makes sense.

    Args:
        recipe: The run.
        monitor: Who listens.
        objectives: More objectives beside detection.
        start: Load the weights that the recipe starts from; not where others will take their place.

    Raises:
        DfineError: Data, recipe or device do not allow the run.
    """
    torch.manual_seed(recipe.run.seed)
    device = choose_device(recipe.run.device)
    keep_freed_blocks()
    data = open_data(recipe, monitor)
    loader = TrainLoader(
        data.train,
        augment=recipe.augment,
        input_size=recipe.data.input_size,
        batch=recipe.optim.batch,
        workers=recipe.data.workers,
        seed=recipe.run.seed,
        pin_memory=device.type == "cuda",
    )
    schedule = recipe.schedule
    plan = Plan(
        recipe=recipe,
        phases=Phases(schedule.epochs, schedule.warm_until, schedule.dense_until, schedule.refine_from),
        steps_per_epoch=-(-len(loader) // accumulation(recipe.optim)),
        device=device,
        precision=choose_precision(recipe.optim.amp, device),
    )
    _refuse_start_weights(recipe, plan)
    if recipe.run.tensorboard:
        need_tensorboard()
    if schedule.early_stop and data.val is None:
        raise UsageError(
            "schedule.early_stop waits for a better AP, but there is no validation set",
            "set data.val_json and data.val_images, or leave early_stop out",
        )
    model, report = _build_model(recipe, data, monitor, start)
    return Setup(recipe, data, loader, plan, _build_state(recipe, plan, model, objectives), report)


def train(
    recipe: Recipe,
    monitor: Monitor | None = None,
    *,
    resume: RunDir | None = None,
    objectives: Sequence[Objective] = (),
) -> RunResult:
    """Train a recipe to its end.

    Args:
        recipe: The run; its data section names at least the training data.
        monitor: Who listens to the progress.
        resume: Go on in this folder from its last checkpoint.
        objectives: More objectives beside detection.

    Raises:
        DfineError: Data, recipe or device do not allow the run; the message says what to do.
        Interrupted: A signal asked for it (``training.interrupt``); the run can be resumed.
    """
    monitor = monitor or Monitor()
    setup = set_up(recipe, monitor, objectives, start=resume is None)
    run = resume or RunDir.create(recipe)
    if resume:
        checkpoint.require_classes(run.last, setup.data.classes)
        checkpoint.load_state(run.last, setup.state)
        _refuse_fewer_epochs(run, setup)
        if not setup.is_finished:
            run.keep_recipe(recipe)
        run.keep_rows([r for r in run.rows() if r["epoch"] <= setup.state.counters.epoch])
    sinks: list[Sink] = [run.append, lambda _: write_curves(run.rows(), run.path / "curves.png")]
    if recipe.run.tensorboard:
        sinks.append(open_tensorboard(run.path / "tensorboard"))
    monitor.started({**setup.facts(), "folder": str(run.path)})
    if setup.is_finished:
        monitor.note("this run is finished; more epochs: --epochs N --allow-changes")
    recorder = Recorder(monitor, sinks)
    early_stop = EarlyStop(recipe.schedule.early_stop, setup.plan.phases, setup.plan.steps_per_epoch)
    with stop_on_signal() as stop:
        tools = Tools(
            loader=setup.loader,
            score=Scorer(recipe, setup.data, setup.plan.device, monitor, stop),
            keeper=Keeper(recipe, setup.data.classes, run, early_stop, monitor),
            guard=Guard(run.path / "not_finite", setup.state.counters.skipped),
            clock=Clock(setup.plan.device),
            monitor=recorder,
            stop=stop,
        )
        try:
            fit(setup.state, setup.plan, tools)
        finally:
            setup.loader.close()
    has_best = run.best.exists()
    return RunResult(run.path, run.best if has_best else run.last, run.rows(), setup.start, has_best)


def rehearse(recipe: Recipe, monitor: Monitor | None = None) -> dict[str, str]:
    """Build everything and take one optimizer step; nothing is written.

    Args:
        recipe: The run.
        monitor: Who listens.

    Returns:
        What the run would consist of, with the loss and the seconds of the step.
    """
    setup = set_up(recipe, monitor or Monitor())
    phase = setup.plan.phases.at(0)
    try:
        batches = list(islice(setup.loader.epoch(0, phase), accumulation(recipe.optim)))
    finally:
        setup.loader.close()
    started = time.perf_counter()
    setup.state.train_mode()
    on_device = [to_device(b, setup.plan.device) for b in batches]
    with TemporaryDirectory() as folder:
        losses = train_step(setup.state, setup.plan, Guard(Path(folder)), on_device)
    return {
        **setup.facts(),
        "step": f"loss {float(losses['loss']):.2f} in {time.perf_counter() - started:.2f} s",
    }


def _refuse_fewer_epochs(run: RunDir, setup: Setup) -> None:
    done, wanted = setup.state.counters.epoch, setup.plan.phases.epochs
    if wanted < done:
        raise UsageError(
            f"{run.path}: {done} epochs are done, and {wanted} are asked for",
            f"ask for {done} or more with --epochs",
        )


def _refuse_start_weights(recipe: Recipe, plan: Plan) -> None:
    left = start_share(decay_of(recipe.ema, plan.total_steps), plan.total_steps)
    if left > MOST_START_WEIGHTS:
        raise UsageError(
            f"after {plan.total_steps} optimizer steps the averaged weights would still be {left:.0%} start weights "
            f"(ema.decay {recipe.ema.decay})",
            "use --set ema.share=0.02, which fits the average to the length of the run",
        )


def _build_model(
    recipe: Recipe, data: TrainingData, monitor: Monitor, start: bool
) -> tuple[DFINE, StartReport | None]:
    """The model with the weights that it starts from, on the CPU, and what is to be said about them."""
    if SIZES[recipe.size].freeze_norm and recipe.model.frozen_backbone and recipe.start.weights is None:
        raise UsageError(
            f"size {recipe.size.upper()} keeps stem and batch norms of its backbone as pretrained, but this run starts "
            "from nothing",
            f"add --set start.weights={SIZES[recipe.size].backbone.lower()}/imagenet, or train all of it with "
            "--set model.frozen_backbone=false",
        )
    model = build_described(recipe.size, len(data.classes), recipe.data.input_size, recipe.model.model_dump())
    report = start_model(model, recipe, data.classes.names, monitor.fetching) if start else None
    for line in report.tell() if report else ():
        monitor.note(line)
    return model, report


def _build_state(recipe: Recipe, plan: Plan, model: DFINE, objectives: Sequence[Objective]) -> TrainState:
    model.to(plan.device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    detection = build_criterion(
        recipe.loss,
        num_classes=model.num_classes,
        reg_max=recipe.model.bins,
        up=recipe.model.weighting_a,
        reg_scale=model.reg_scale,
    )
    frozen_norms = freeze(model, recipe.start.freeze)
    ema = Ema(model, decay_of(recipe.ema, plan.total_steps))
    if recipe.run.compile:
        model.compile()
    return TrainState(
        model=model,
        ema=ema,
        optimizer=build_optimizer(model, recipe.optim, recipe.size, own_parameters(objectives, plan.device)),
        scaler=plan.precision.scaler(),
        objectives=[Detection(detection), *objectives],
        frozen_norms=frozen_norms,
    )
