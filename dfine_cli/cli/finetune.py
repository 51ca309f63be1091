"""``dfine finetune``: from trained weights to a detector of the user's classes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfine_cli.cli.console import StatusLine, say
from dfine_cli.cli.options import (
    DeviceOption,
    DryRunOption,
    EpochsOption,
    InputSizeOption,
    JsonOption,
    NameOption,
    SeedOption,
    SetOption,
    ShowOption,
    WorkersOption,
    parse_input_size,
    to_overrides,
)
from dfine_cli.cli.runs import rehearse_run, train_run
from dfine_cli.cli.show import show_recipe
from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.config.load import Resolved

AUTO = "auto"


def command(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="A dataset folder, one COCO JSON file, or a config (YAML)."),
    ],
    from_: Annotated[
        str,
        typer.Option(
            "--from", metavar="auto|NAME|FILE", help="Weights to begin with: s/obj2coco, a file, or a run."
        ),
    ] = AUTO,
    size: Annotated[
        str | None, typer.Option("--size", metavar="n|s|m|l|x", help="Model size; that of --from, else n.")
    ] = None,
    set_: SetOption = None,
    epochs: EpochsOption = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="auto|N",
            help="Images in one pass; auto: what fits into memory, at most optim.nominal_batch.",
        ),
    ] = None,
    input_size: InputSizeOption = None,
    freeze: Annotated[
        str | None,
        typer.Option("--freeze", metavar="backbone|encoder|all-but-head", help="What is not trained."),
    ] = None,
    backbone_lr_mult: Annotated[
        float | None,
        typer.Option(
            "--backbone-lr-mult", metavar="F", help="Backbone's learning rate as a share of the rest's."
        ),
    ] = None,
    early_stop: Annotated[
        int | None,
        typer.Option("--early-stop", metavar="N", help="Epochs without a better AP before moving on."),
    ] = None,
    class_map: Annotated[
        list[str] | None,
        typer.Option(
            "--class-map", metavar="FILE|MINE=THEIRS", help="Which class starts from which. Repeatable."
        ),
    ] = None,
    head: Annotated[
        bool, typer.Option("--head/--no-head", help="Carry class heads over by name, or start all fresh.")
    ] = True,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    show: ShowOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train on your own classes from published weights, keeping what they know of them.

    The recipe is chosen by size and amount of data; --from auto takes weights from Objects365 and COCO for complex
    scenes, and from COCO alone for a few simple classes.
    """
    if class_map and not head:
        raise UsageError(
            "--class-map and --no-head: no class starts from another one", "leave one of them out"
        )
    from dfine_cli.config.class_map import gather_class_map
    from dfine_cli.config.keys import flatten
    from dfine_cli.config.yaml12 import render_value

    flags = {
        "start.weights": None if from_ == AUTO else from_,
        "start.class_map": gather_class_map(class_map) if class_map else None,
        "start.head": None if head else "fresh",
        "start.freeze": freeze,
        "schedule.epochs": epochs,
        "schedule.early_stop": early_stop,
        "optim.batch": None if batch == AUTO else _count("--batch", batch),
        "data.input_size": parse_input_size(input_size),
        "run.device": device,
        "data.workers": workers,
        "run.seed": seed,
        "name": name,
    }
    overrides = to_overrides(flags, set_)
    meant_for, activation = _kind_of(from_)
    if activation not in ("relu", None):
        overrides = [*to_overrides({"model.activation": activation}), *overrides]
    resolved, reasons = _choose(data, size, meant_for, overrides)
    resolved, measured = _refine(resolved, backbone_lr_mult, batch == AUTO)
    if show:
        show_recipe(resolved, as_json)
        return
    values = flatten(resolved.recipe)
    for key, reason in reasons.items():
        say(f"chosen: {key} {render_value(values[key])}: {reason}")
    extra = {"reasons": reasons, **measured}
    if dry_run:
        rehearse_run(resolved, as_json, extra)
    else:
        train_run(resolved, None, as_json, extra)


def _choose(
    data: Path, size: str | None, meant_for: str, overrides: list[str]
) -> tuple["Resolved", dict[str, str]]:
    """The recipe for a dataset or the one in a config, and the reasons of what was chosen in it."""
    if data.suffix in (".yaml", ".yml"):
        return _of_config(data, [*to_overrides({"size": size}), *overrides])
    from dfine_cli.config.load import load_recipe
    from dfine_cli.survey import look, split_stem

    size = meant_for if size is None else size
    folder = load_recipe(f"finetune/{size}", overrides).recipe.run.folder
    status = StatusLine()
    try:
        found = look(
            data,
            split_stem(data, folder),
            kind="finetune",
            size=size,
            overrides=overrides,
            force=True,
            progress=lambda done, total: status.update(f"checking images: {done}/{total}"),
        )
    finally:
        status.close()
    for path in found.written:
        say(f"no validation split: a fifth is held out, {path}")
    for finding in found.report.findings:
        say(f"{finding.severity}: {finding}")
    return found.resolved, found.reasons


def _of_config(path: Path, overrides: list[str]) -> tuple["Resolved", dict[str, str]]:
    """The recipe in a file, with weights to begin with if it names none."""
    from dfine_cli.config.load import adjust, load_recipe
    from dfine_cli.survey import start_for

    resolved = load_recipe(path, overrides)
    usual = load_recipe(f"finetune/{resolved.recipe.size}").recipe.optim.lr
    if resolved.recipe.optim.lr > 2 * usual:
        say(
            f"note: {path} has optim.lr {resolved.recipe.optim.lr:g}, a rate for training from scratch; "
            f"fine-tuning of this size usually takes {usual:g}"
        )
    if resolved.recipe.start.weights is not None:
        return resolved, {}
    choice = start_for(resolved.recipe)
    return adjust(resolved, {"start.weights": choice.value}, "--from auto"), {"start.weights": choice.reason}


def _kind_of(weights: str) -> tuple[str, str | None]:
    """The size that weights are for, the smallest where that is open, and the activation of their decoder if known."""
    from dfine_cli.config.load import is_weights_path
    from dfine_cli.model.sizes import SIZES
    from dfine_cli.model.weights import WEIGHTS

    if weights == AUTO:
        return "n", None
    if is_weights_path(weights):
        from dfine_cli.zoo.open import read_named

        read = read_named(Path(weights).expanduser())
        size, activation = read.size, read.activation
    else:
        entry = WEIGHTS.get(weights.lower())
        size = weights.partition("/")[0].lower()
        activation = entry.activation if entry else None
    if size not in SIZES:
        size = next((s.name for s in SIZES.values() if s.backbone.lower() == size), "n")
    return size, activation


def _refine(
    resolved: "Resolved", backbone_lr_mult: float | None, probe: bool
) -> tuple["Resolved", dict[str, Any]]:
    """The recipe with what follows from its other values, and what was measured for it."""
    from dfine_cli.config.load import adjust

    if backbone_lr_mult is not None:
        if backbone_lr_mult <= 0:
            raise UsageError(f"--backbone-lr-mult {backbone_lr_mult:g}: must be above 0", "--freeze backbone")
        rate = backbone_lr_mult * resolved.recipe.optim.lr
        resolved = adjust(resolved, {"optim.backbone_lr": rate}, "--backbone-lr-mult")
    if not probe:
        return resolved, {}
    from dfine_cli.training.batch_probe import probe_batch

    found = probe_batch(resolved.recipe)
    say(f"batch: {found.tell()}")
    optim = resolved.recipe.optim
    values = {"optim.batch": found.batch, "optim.nominal_batch": optim.nominal_batch or optim.batch}
    return adjust(resolved, values, "--batch auto"), {"batch_probe": found.to_dict()}


def _count(option: str, text: str | None) -> int | None:
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise UsageError(f"{option} {text}: must be a number or {AUTO}", f"for example {option} 8")
