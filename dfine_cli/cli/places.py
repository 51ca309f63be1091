"""Where ``dfine eval`` writes, and what must not be written over."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dfine_cli.cli.data import Split, named_in
from dfine_cli.cli.options import check_place
from dfine_cli.errors import UsageError


def predictions_beside(weights: Path, annotations: Path, split: Split) -> Path:
    """Where predictions go: into the folder of the run, or beside a file of its own; here for pulled ones.

    In a run they are called by the split, as val.json, for its own data alone; by the annotations for others.
    """
    from dfine_cli.backends.detector import EXPORTED
    from dfine_cli.zoo.cache import home

    own_name = f"{weights.stem}_{split.value}_predictions.json"  # others lie side by side
    if home() in weights.parents:
        return Path(own_name)
    run = weights.parent.parent
    if weights.suffix.lower() in EXPORTED or not is_in_run(run / "predictions" / "val.json"):
        return weights.with_name(own_name)
    own = named_in(run / "recipe.yaml", split)
    is_own = own is not None and own.json.resolve() == annotations.resolve()
    name = split.value if is_own else f"{annotations.absolute().parent.name}_{annotations.stem}"
    return run / "predictions" / f"{name}.json"


def is_in_run(predictions: Path) -> bool:
    """Whether a place of predictions is in the folder of a run."""
    return predictions.parent.name == "predictions" and (predictions.parents[1] / "recipe.yaml").is_file()


def check_places(places: Mapping[str, Path | None]) -> None:
    """Refuse now what would fail after the evaluation.

    Args:
        places: Where something is to be written, by option.

    Raises:
        UsageError: Nothing can be written there, or not in this format.
    """
    for option, place in places.items():
        if place is not None:
            check_place(option, place)
            if option != "--report" and place.is_dir():
                raise UsageError(f"{option} {place}: is a folder", "give a file in it")
    sheet = places["--sheet"]
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet {sheet}: must be a PNG file", f"for example {sheet.with_suffix('.png')}")


def check_overwrites(written: Mapping[str, Sequence[Path | None]], read: Mapping[str, Path | None]) -> None:
    """Refuse to write over what is read.

    Args:
        written: Files by the option that says where they go.
        read: Files by what they are.

    Raises:
        UsageError: Two of them are the same file.
    """
    for option, targets in written.items():
        for target in targets:
            for what, file in read.items():
                if target and file and target.exists() and file.exists() and target.samefile(file):
                    raise UsageError(
                        f"{target}: would be written over {what}", f"choose another place with {option}"
                    )


def refuse_foreign(target: Path | None) -> None:
    """Refuse to write predictions over anything but predictions, which are a list."""
    if target is None or not target.is_file():
        return
    with target.open("rb") as file:
        start = file.read(64).lstrip()
    if start and not start.startswith(b"["):
        raise UsageError(
            f"{target}: is there already, and holds no results", "choose another place with --out"
        )
