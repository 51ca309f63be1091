"""``dfine train``: train a recipe, rehearse it, show it, or go on with a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfine_cli.cli.console import print_json, print_next, print_out
from dfine_cli.cli.options import (
    BatchOption,
    DeviceOption,
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
from dfine_cli.cli.show import show_recipe, tell_notes
from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.config.load import Resolved
    from dfine_cli.training.run import RunResult
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, take one step, and write no run folder.")
    ] = False,
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
        _rehearse(resolved, as_json)
    else:
        _train(resolved, run, as_json)


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


def _rehearse(resolved: "Resolved", as_json: bool) -> None:
    from dfine_cli.cli.monitor import ConsoleMonitor
    from dfine_cli.training.run import rehearse

    facts = rehearse(resolved.recipe, ConsoleMonitor())
    if as_json:
        print_json({"dry_run": facts})
    else:
        tell_notes(resolved)
        for key, text in facts.items():
            print_out(f"{key}: {text}")


def _train(resolved: "Resolved", run: "RunDir | None", as_json: bool) -> None:
    from dfine_cli.cli.monitor import ConsoleMonitor
    from dfine_cli.training.run import train

    tell_notes(resolved)
    monitor = ConsoleMonitor()
    try:
        result = train(resolved.recipe, monitor, resume=run)
    finally:
        monitor.status.close()
    _show(result, as_json)
    print_next(f"dfine eval {result.folder}")


def _show(result: "RunResult", as_json: bool) -> None:
    row = result.best_row
    if as_json:
        print_json({"folder": result.folder, "best": result.best, "best_row": row, "rows": result.rows})
        return
    if "ap" in row:
        print_out(
            f"best: epoch {row['epoch'] + 1}, AP {row['ap']:.4f}, AP50 {row['ap50']:.4f} ({row['weights']} weights)"
        )
    print_out(f"weights: {result.best}")
    print_out(f"run: {result.folder}")
