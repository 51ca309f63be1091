"""``dfine zoo``: published weights, from their table to a checked file on this machine, and between layouts."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfine_cli.cli.console import print_json, print_next, print_out, print_table, say
from dfine_cli.cli.downloads import local_weights, shown
from dfine_cli.cli.options import ForceOption, JsonOption
from dfine_cli.errors import CheckError, DfineError, UsageError

if TYPE_CHECKING:
    from dfine_cli.model.weights import WeightsEntry
    from dfine_cli.zoo.read import PublishedWeights

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name of `dfine zoo list`: s/obj2coco.")]


def list_(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORDS]", help="Show the rows with all of these: s coco.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List published weights with what they were trained on, what they reach and what they cost."""
    from dfine_cli.model.weights import WEIGHTS, match_words

    entries = [entry for entry in WEIGHTS.values() if match_words(entry, words or [])]
    if as_json:
        print_json({"weights": [_values(entry) for entry in entries]})
        return
    if not entries:
        raise UsageError(
            f"no published weights match {' '.join(words or [])!r}", "`dfine zoo list` shows all"
        )
    print_table([_row(entry) for entry in entries], _HEADER)
    if any(entry.ap_first_5000 for entry in entries):
        say(
            "AP of Objects365 weights is on the first 5000 validation images of Objects365, others on COCO val2017"
        )


_HEADER = ("name", "trained on", "classes", "AP", "params M", "GFLOPs", "T4 ms", "here")


def _row(entry: "WeightsEntry") -> list[object]:
    from dfine_cli.zoo.cache import is_here

    numbers = (entry.ap_first_5000 or entry.ap, entry.parameters_m, entry.gflops, entry.latency_ms)
    shown_numbers = ["-" if number is None else number for number in numbers]
    here = "yes" if is_here(entry) else "no"
    return [entry.name, entry.trained_on, entry.num_classes or "-", *shown_numbers, here]


def _values(entry: "WeightsEntry") -> dict[str, Any]:
    import dataclasses

    from dfine_cli.zoo.cache import is_here, place_of, recorded_hash

    path = place_of(entry)
    return {
        **dataclasses.asdict(entry),
        "path": str(path),
        "here": is_here(entry),
        "sha256": recorded_hash(path),
    }


def info(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show all that is known about published weights."""
    from dfine_cli.model.weights import find_entry

    values = _values(find_entry(name))
    if as_json:
        print_json(values)
        return
    print_table([(key, _shown(value)) for key, value in values.items()])
    print_next(f"dfine zoo pull {values['name']}")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAMES", help="Names of `dfine zoo list`.")],
    renew: Annotated[
        bool, typer.Option("--renew", help="Download again, and take the present file as the right one.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Download published weights, check them, and print where they are.

    DFINE_HOME is the folder they go to (~/.cache/dfine); DFINE_MIRROR a folder or server to take them from.
    """
    from dfine_cli.model.weights import find_entry
    from dfine_cli.zoo.cache import recorded_hash
    from dfine_cli.zoo.open import pull_entry

    pulled = {}
    for entry in [find_entry(name) for name in names]:
        with shown(entry.name) as progress:
            path = pull_entry(entry, progress=progress, renew=renew)
        pulled[entry.name] = {"path": str(path), "sha256": recorded_hash(path)}
        if not as_json:
            print_out(str(path))
    if as_json:
        print_json({"weights": pulled})


def path(name: NameArgument) -> None:
    """Print where the file of published weights is, or goes."""
    from dfine_cli.model.weights import find_entry
    from dfine_cli.zoo.cache import place_of

    entry = find_entry(name)
    place = place_of(entry)
    print_out(str(place))
    if not place.is_file():
        say(f"{entry.name} is not there yet: `dfine zoo pull {entry.name}`, or put {entry.url} there")


def verify(
    weights: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WEIGHTS]", help="Names or files; all that were pulled by default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check weights: the hash of first use, and every key and shape, told by part."""
    from dfine_cli.model.weights import WEIGHTS
    from dfine_cli.zoo.cache import place_of

    asked = weights or [name for name, entry in WEIGHTS.items() if place_of(entry).is_file()]
    if not asked:
        say("no weights have been pulled")
    results: dict[str, dict[str, Any]] = {}
    errors: list[DfineError] = []  # raised at the end, so that a file that cannot be read hides no other
    for text in asked:
        try:
            results[text] = _verify(text, quiet=as_json)
        except (UsageError, CheckError) as error:
            results[text] = {"faults": [error.message]}
            errors.append(error)
        else:
            if faults := "; ".join(results[text]["faults"]):
                errors.append(CheckError(f"{text} does not fit: {faults}", "use another copy of the weights"))
    if as_json:
        print_json({"weights": results})
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise type(errors[0])(errors[0].message + more, errors[0].hint)


def _verify(text: str, *, quiet: bool) -> dict[str, Any]:
    from dfine_cli.model.weights import entry_of
    from dfine_cli.tensor_file import first_not_finite
    from dfine_cli.zoo.cache import hash_of
    from dfine_cli.zoo.open import read_named, verify_entry
    from dfine_cli.zoo.structure import FIT_HEADER

    entry = entry_of(text)
    if entry is None:
        found = read_named(Path(text))
        digest = hash_of(found.path) if found.path.is_file() else None
    else:
        found, digest = verify_entry(entry)
    fit = found.fit()
    if not quiet:
        print_out(f"{text}: {_summary(found)}\nSHA-256 {digest or '-'}")
        print_table(fit.rows(), FIT_HEADER)
    parts = [dict(zip(FIT_HEADER, row, strict=True)) for row in fit.rows()]
    faults = [] if fit.complete else fit.faults()
    if name := first_not_finite(found.state):
        faults = [*faults, f"not all values of {name} are finite numbers"]
    return {
        **_described(found),
        "sha256": digest,
        "parts": parts,
        "left_over": _left(found),
        "faults": faults,
    }


def _left(found: "PublishedWeights") -> list[str]:
    return [key for part in found.fit().parts for key in part.left_over]


def _described(found: "PublishedWeights") -> dict[str, Any]:
    return {
        "path": str(found.path),
        "layout": found.layout,
        "size": found.size,
        "num_classes": found.num_classes,
        "input_size": list(found.input_size),
    }


def _summary(found: "PublishedWeights") -> str:
    if found.is_backbone:
        return f"HGNetV2-{found.size.upper()}, a backbone alone"
    height, width = found.input_size
    return (
        f"D-FINE-{found.size.upper()}, {found.num_classes} classes, {height}x{width}, layout {found.layout}"
    )


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A name, a file of weights, or a folder.")],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="FILE.pth, FILE.safetensors, or a folder for transformers."),
    ],
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write weights in another layout: published, .safetensors, or that of Hugging Face's transformers."""
    from dfine_cli.zoo.convert import convert as write
    from dfine_cli.zoo.open import open_weights

    weights = open_weights(local_weights(source))
    layout, left = write(weights, out, overwrite=force), weights.fit().left_over
    if as_json:
        print_json({**_described(weights), "out": str(out), "out_layout": layout, "left_over": left})
        return
    if left:
        say(f"left out, as D-FINE-{weights.size.upper()} has no place for it: {', '.join(left)}")
    if layout == "huggingface" and weights.activation is None:
        say(
            "nothing says the activation of its decoder: transformers takes relu, and weights of DEIM need silu"
        )
    print_out(f"{_summary(weights)} -> {out} ({layout})")
    print_next(f"dfine zoo verify {out}")


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_,
    "info": info,
    "pull": pull,
    "verify": verify,
    "path": path,
    "convert": convert,
}
"""Name of each subcommand of ``dfine zoo`` and the function behind it; its docstring is the help."""
