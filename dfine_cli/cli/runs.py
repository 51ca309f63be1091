"""Starting a run from a command and telling about it: what ``dfine train`` and ``dfine finetune`` share."""

import shlex
from typing import TYPE_CHECKING, Any

from dfine_cli.cli.console import print_json, print_next, print_out
from dfine_cli.cli.show import tell_notes

if TYPE_CHECKING:
    from dfine_cli.config.load import Resolved
    from dfine_cli.training.run import RunResult
    from dfine_cli.training.run_dir import RunDir


def rehearse_run(resolved: "Resolved", as_json: bool, extra: dict[str, Any] | None = None) -> None:
    """Take one step of a recipe and print what it consists of."""
    from dfine_cli.cli.monitor import ConsoleMonitor
    from dfine_cli.training.run import rehearse

    monitor = ConsoleMonitor()
    try:
        facts = rehearse(resolved.recipe, monitor)
    finally:
        monitor.status.close()
    if as_json:
        print_json({"dry_run": facts, **(extra or {})})
        return
    tell_notes(resolved)
    for key, text in facts.items():
        print_out(f"{key}: {text}")


def train_run(
    resolved: "Resolved", run: "RunDir | None", as_json: bool, extra: dict[str, Any] | None = None
) -> None:
    """Train a recipe, or go on with a run of it, and print what came out."""
    from dfine_cli.cli.monitor import ConsoleMonitor
    from dfine_cli.training.run import train

    tell_notes(resolved)
    monitor = ConsoleMonitor()
    try:
        result = train(resolved.recipe, monitor, resume=run)
    finally:
        monitor.status.close()
    _show(result, as_json, extra or {})
    # The weights of a run are its best ones; the last ones are named, and get their data from the run.
    words = [result.folder] if result.has_best else [result.best, result.folder]
    print_next(shlex.join(["dfine", "eval", *map(str, words)]))


def _show(result: "RunResult", as_json: bool, extra: dict[str, Any]) -> None:
    row = result.best_row
    if as_json:
        start = {"start": result.start.to_dict()} if result.start else {}
        values = {"folder": result.folder, "best": result.best, "best_row": row, "rows": result.rows}
        print_json({**values, **start, **extra})
        return
    if "ap" in row:
        print_out(
            f"best: epoch {row['epoch']}, AP {row['ap']:.4f}, AP50 {row['ap50']:.4f} ({row['weights']} weights)"
        )
    print_out(f"weights: {result.best}")
    print_out(f"run: {result.folder}")
