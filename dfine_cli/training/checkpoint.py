"""Writing and reading the one checkpoint format; files appear whole or not at all."""

from pathlib import Path
from typing import Any

import torch

from dfine_cli import __version__
from dfine_cli import checkpoint_format as keys
from dfine_cli.backends.torch_backend import read_checkpoint
from dfine_cli.config.schema import Recipe
from dfine_cli.data.classes import ClassMap
from dfine_cli.errors import CheckError, DfineError, cannot_write
from dfine_cli.tensor_file import save_plain
from dfine_cli.training.monitor import Row
from dfine_cli.training.state import Counters, TrainState
from dfine_cli.whole_file import whole_file


def save_weights(path: Path, state: TrainState, recipe: Recipe, classes: ClassMap, row: Row) -> None:
    """Write what inference needs, about twice the size of the model."""
    _write(path, _weights(state, recipe, classes, row))


def save_checkpoint(path: Path, state: TrainState, recipe: Recipe, classes: ClassMap, row: Row) -> None:
    """Write everything that resuming needs."""
    resume = {
        keys.OPTIMIZER: state.optimizer.state_dict(),
        keys.SCALER: state.scaler.state_dict(),
        keys.OBJECTIVES: [o.state_dict() for o in state.objectives],
        keys.MEANS: state.means.state_dict(),
        keys.COUNTERS: {**state.counters.to_dict(), "ema_updates": state.ema.updates},
        keys.RANDOM: _random_state(),
    }
    _write(path, _weights(state, recipe, classes, row) | resume)


def load_state(path: Path, state: TrainState, *, rewind: bool = True) -> None:
    """Put a full checkpoint back into ``state``.

    Args:
        path: A file of ``save_checkpoint``.
        state: What to overwrite; undefined after an error.
        rewind: Restore counters and random generators too, as resuming does. Going back to the best weights
            inside a run keeps them. # published: the epoch counter is rewound as well, which repeats epochs.

    Raises:
        CheckError: The file cannot be read, holds weights only, or is of another model or optimizer.
    """
    file = read_checkpoint(path)
    if keys.OPTIMIZER not in file:
        raise CheckError(f"{path} holds weights only, nothing to go on from", "resume from weights/last.pt")
    try:
        _fill(state, file, rewind)
    except (RuntimeError, ValueError, KeyError) as error:
        detail = " ".join(str(error).split())
        raise CheckError(
            f"{path} does not fit this run: {detail[:200]}{'…' * (len(detail) > 200)}",
            "model, classes, objectives and optimizer groups must stay; change them in a new run",
        ) from error


def require_classes(path: Path, classes: ClassMap) -> None:
    """Refuse to go on with other classes than those of the checkpoint at ``path``.

    Raises:
        CheckError: They differ, or the file cannot be read.
    """
    saved = ClassMap.from_dict(read_checkpoint(path)[keys.CLASSES])
    if saved != classes:
        raise CheckError(
            f"{path} was trained on the classes {', '.join(saved.names)}; the data now has {', '.join(classes.names)}",
            "go on with the data that the run began with, or start a new run",
        )


def _fill(state: TrainState, file: dict[str, Any], rewind: bool) -> None:
    state.model.load_state_dict(file[keys.MODEL])
    state.ema.model.load_state_dict(file[keys.EMA])
    of_recipe = [
        {k: v for k, v in group.items() if k not in ("params", "lr")}
        for group in state.optimizer.param_groups
    ]
    state.optimizer.load_state_dict(file[keys.OPTIMIZER])
    for group, options in zip(state.optimizer.param_groups, of_recipe, strict=True):
        group.update(options)  # other values than before only where changes of the recipe were allowed
    state.scaler.load_state_dict(file[keys.SCALER])
    for objective, saved in zip(state.objectives, file[keys.OBJECTIVES], strict=True):
        objective.load_state_dict(saved)
    counters = dict(file[keys.COUNTERS])
    state.ema.updates = int(counters.pop("ema_updates"))
    if rewind:
        state.counters = Counters(**counters)
        state.means.load_state_dict(file[keys.MEANS])
        state.best_weights = file[keys.BEST_WEIGHTS]
        _set_random_state(file[keys.RANDOM])


def store_operating_point(path: Path, point: dict[str, Any]) -> None:
    """Add the operating point of an evaluation to a checkpoint, in place of an earlier one.

    Args:
        path: A checkpoint of ``save_weights`` or ``save_checkpoint``; everything else in it is kept.
        point: What ``checkpoint_format.OPERATING_POINT`` describes, in plain values.

    Raises:
        DfineError: The file cannot be read or written, or was written by somebody else at the same time.
    """
    before = _state_of(path)
    content = read_checkpoint(path)
    if before != _state_of(path):
        raise DfineError(f"{path} is being written by a training run", "store the threshold when it is done")
    _write(path, {**content, keys.OPERATING_POINT: point})


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None if it is not there."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _weights(state: TrainState, recipe: Recipe, classes: ClassMap, row: Row) -> dict[str, Any]:
    return {
        keys.FORMAT_KEY: keys.FORMAT,
        keys.MODEL: state.model.state_dict(),
        keys.EMA: state.ema.model.state_dict(),
        keys.BEST_WEIGHTS: state.best_weights,
        keys.SIZE: recipe.size,
        keys.CLASSES: classes.to_dict(),
        keys.RECIPE: recipe.model_dump(mode="json"),
        keys.METRICS: row,
        keys.VERSIONS: {"dfine": __version__, "torch": str(torch.__version__)},
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write the file, down to the disk, before it takes the place of the one before it."""
    try:
        with whole_file(path) as part:
            save_plain(content, part)
    except OSError as error:
        raise cannot_write(path, error, "free some space; the file before it is untouched") from error


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(saved: dict[str, Any]) -> None:
    torch.set_rng_state(saved["cpu"])
    if torch.cuda.is_available() and saved["cuda"]:
        torch.cuda.set_rng_state_all(saved["cuda"])
