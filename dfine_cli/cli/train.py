"""``dfine train``: train a recipe, rehearse it, show it, or go on with a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfine_cli.cli.options import (
    BatchOption,
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
    from dfine_cli.training.run_dir import RunDir


def command(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="A config file, or a shipped recipe such as scratch/n."),
    ] = None,
    set_: SetOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    input_size: InputSizeOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with the run in this folder.")
    ] = None,
    allow_changes: Annotated[
        bool,
        typer.Option("--allow-changes", help="With --resume: accept other values than the run began with."),
    ] = False,
    show: ShowOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a detector as a recipe says; Ctrl-C once saves and stops."""
    flags = {
        "schedule.epochs": epochs,
        "optim.batch": batch,
        "data.input_size": parse_input_size(input_size),
        "run.device": device,
        "data.workers": workers,
        "run.seed": seed,
        "name": name,
    }
    overrides = to_overrides(flags, set_)
    if resume and dry_run:
        raise UsageError(
            "--dry-run rehearses how a run begins, not how it goes on", "leave out --resume or --dry-run"
        )
    run, source = _source(recipe, resume)
    if run and overrides and not allow_changes:
        raise UsageError(
            f"a resumed run keeps its recipe, but this would change {', '.join(o.partition('=')[0] for o in overrides)}",
            "leave that out, or add --allow-changes",
        )
    from dfine_cli.config.load import load_recipe

    resolved = load_recipe(source, overrides)
    if show:
        show_recipe(resolved, as_json)
    elif dry_run:
        rehearse_run(resolved, as_json)
    else:
        train_run(resolved, run, as_json)


def _source(recipe: str | None, resume: Path | None) -> tuple["RunDir | None", str]:
    """The run to go on with, if any, and where the recipe is."""
    if (recipe is None) == (resume is None):
        raise UsageError(
            "give a recipe, or --resume with the folder of a run", "dfine init DATA writes a config"
        )
    if resume is None:
        return None, str(recipe)
    if not (resume / "weights" / "last.pt").is_file():
        raise UsageError(f"{resume}: no weights/last.pt to go on from", "give the folder of a run")
    from dfine_cli.training.run_dir import RunDir

    return RunDir(resume), str(resume / "recipe.yaml")
