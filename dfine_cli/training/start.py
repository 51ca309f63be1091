"""The weights that a run begins with: read, fitted to the model of the recipe, and told about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dfine_cli.config.schema import Recipe
from dfine_cli.data.objects365 import HEAD_ROWS
from dfine_cli.errors import UsageError
from dfine_cli.model.dfine import DFINE
from dfine_cli.model.sizes import SIZES
from dfine_cli.tensor_file import require_finite
from dfine_cli.training.freeze import FROZEN
from dfine_cli.training.transfer import Transfer, carry_rows
from dfine_cli.zoo.download import Progress, silent
from dfine_cli.zoo.open import open_weights
from dfine_cli.zoo.read import PublishedWeights
from dfine_cli.zoo.structure import FIT_HEADER, Fit, compare, shapes_of

_FORMULAS = ("decoder.anchors", "decoder.valid_mask")
"""Entries that follow from the input size."""
_CURVE = {"decoder.up": "weighting_a", "decoder.reg_scale": "weighting_c"}
"""The two constants of the paper's W(n), and the knob of each."""


@dataclass(frozen=True)
class StartReport:
    """What of the weights went into the model."""

    weights: str
    """As the recipe names them."""
    source: str
    """What they are, in words."""
    transfer: Transfer
    fit: Fit
    notes: tuple[str, ...]

    def tell(self) -> list[str]:
        """The report as lines of text; a table by part where not everything fits."""
        lines = [f"start: {self.weights}, {self.source}", *self.transfer.tell(), *self.notes]
        if self.fit.exact:
            return lines
        rows = [FIT_HEADER, *((part, *map(str, counts)) for part, *counts in self.fit.rows())]
        table = ["  ".join(cell.rjust(11) if i else cell.ljust(8) for i, cell in enumerate(r)) for r in rows]
        return [*lines, "not all of it fits; what is missing or of another shape starts fresh:", *table] + [
            f"  {fault}" for fault in self.fit.faults()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "weights": self.weights,
            "source": self.source,
            "classes": self.transfer.to_dict(),
            "fit": [dict(zip(FIT_HEADER, row, strict=True)) for row in self.fit.rows()],
            "faults": self.fit.faults(),
            "notes": list(self.notes),
        }


def start_model(
    model: DFINE, recipe: Recipe, classes: Sequence[str], progress: Progress = silent
) -> StartReport | None:
    """Put the weights that a recipe names into a fresh model; None where it names none.

    Args:
        model: As the recipe describes it, initialised.
        recipe: The run.
        classes: Names of the classes of the data.
        progress: Told how a download goes.

    Raises:
        DfineError: The weights cannot be had.
        CheckError: They are damaged.
        UsageError: They are for another size, or for a model that the recipe does not describe; or the recipe
            says to keep of them what they do not have.
    """
    name = recipe.start.weights
    if name is None:
        if recipe.start.class_map or recipe.start.freeze != "none":
            raise UsageError(
                "start.class_map and start.freeze are for a run that starts from weights",
                "set start.weights, or leave them out",
            )
        return None
    weights = open_weights(name, progress=progress)
    require_finite(weights.state, name)
    _require_kind(weights, recipe)
    _require_curve(weights, model)
    transfer, notes = _match(weights, recipe, classes)
    if weights.activation is None and not weights.is_backbone:
        notes = [*notes, _assumed(recipe)]
    fresh = model.state_dict()
    state = {key: value for key, value in weights.state.items() if key not in _FORMULAS}
    state = carry_rows(state, fresh, transfer.matches)
    fit = compare(shapes_of(state), shapes_of(fresh))
    fitting = {key for part in fit.parts for key in part.fits}
    if not fitting:
        raise UsageError(f"{name}: nothing of it fits a D-FINE-{recipe.size.upper()}", "use other weights")
    _require_frozen(fit, recipe)
    model.load_state_dict({**fresh, **{key: value for key, value in state.items() if key in fitting}})
    return StartReport(name, _describe(weights), transfer, fit, tuple(notes))


def read_class_map(entries: Sequence[str]) -> dict[str, str]:
    """``mine=theirs`` entries as a mapping.

    Raises:
        UsageError: An entry is something else, or a class stands twice.
    """
    found: dict[str, str] = {}
    for entry in entries:
        mine, equals, theirs = (part.strip() for part in entry.partition("="))
        if not equals or not mine:
            raise UsageError(
                f"class map: {entry!r} must be mine=theirs", "for example helmet=Helmet, or mine=none"
            )
        if mine in found:
            raise UsageError(f"class map: {mine!r} stands twice", "keep one of the entries")
        found[mine] = theirs
    return found


def row_names(weights: PublishedWeights) -> tuple[str, ...] | None:
    """Name of each row of the class heads; None where nothing says."""
    if weights.class_names is not None:
        return weights.class_names
    return HEAD_ROWS if weights.label_set == "objects365" else None


def _match(weights: PublishedWeights, recipe: Recipe, classes: Sequence[str]) -> tuple[Transfer, list[str]]:
    """Which classes start from which, and what is to be said about it."""
    class_map = read_class_map(recipe.start.class_map)
    if class_map and (weights.is_backbone or recipe.start.head == "fresh"):
        why = (
            f"{recipe.start.weights} is a backbone, which has none"
            if weights.is_backbone
            else "all start fresh"
        )
        raise UsageError(
            f"start.class_map says which class heads start from which, but {why}",
            "leave out --class-map" + ("" if weights.is_backbone else " or --no-head (start.head: fresh)"),
        )
    if recipe.start.head == "fresh":
        return Transfer.by_name((), classes), ["the class heads start fresh, as asked (start.head)"]
    if weights.is_backbone:
        return Transfer.by_name((), classes), []
    names = row_names(weights)
    if names is not None:
        return Transfer.by_name(names, classes, class_map), []
    rows, unknown = map(str, range(weights.num_classes)), dict.fromkeys(classes, "none")
    note = (
        f"the weights do not name their {weights.num_classes} classes, so none is found by name; "
        "a class map may give the number of a row, counted from 0"
    )
    return Transfer.by_name(tuple(rows), classes, {**unknown, **class_map}), [note]


def _assumed(recipe: Recipe) -> str:
    return (
        f"nothing says which activation the decoder of the weights has: {recipe.model.activation} is assumed "
        "(model.activation; D-FINE has relu, DEIM silu)"
    )


def _require_kind(weights: PublishedWeights, recipe: Recipe) -> None:
    name, size = recipe.start.weights, SIZES[recipe.size]
    known = weights.activation is not None and not weights.is_backbone
    if known and weights.activation != recipe.model.activation:
        raise UsageError(
            f"{name}: trained with {weights.activation} in the decoder, the recipe has {recipe.model.activation}",
            f"add --set model.activation={weights.activation}",
        )
    wanted = size.backbone.lower() if weights.is_backbone else size.name
    if weights.size != wanted:
        what = "backbone " if weights.is_backbone else "D-FINE-"
        raise UsageError(
            f"{name}: is {what}{weights.size.upper()}, but the recipe is for size {size.name.upper()} "
            f"(backbone {size.backbone})",
            "use --size and --from of the same size",
        )


def _require_frozen(fit: Fit, recipe: Recipe) -> None:
    """Refuse to freeze what starts fresh: random weights that nothing ever trains."""
    frozen = FROZEN[recipe.start.freeze]
    for part in fit.parts:
        if part.part in frozen and (fresh := part.missing + part.other_shape):
            raise UsageError(
                f"start.freeze {recipe.start.freeze}: the {part.part} would stay as it was drawn, as "
                f"{recipe.start.weights} lacks {len(fresh)} of its entries, such as {fresh[0]}",
                "freeze less, or start from weights that have it (`dfine zoo list` shows detectors)",
            )


def _require_curve(weights: PublishedWeights, model: DFINE) -> None:
    """Refuse other constants of W(n): the box heads would mean other boxes, with nothing to show for it."""
    own = model.state_dict()
    for key, knob in _CURVE.items():
        theirs = weights.state.get(key, weights.state.get(key.replace("decoder.", "decoder.decoder.", 1)))
        if theirs is None or float(theirs) == float(own[key]):
            continue
        value = float(theirs) if knob == "weighting_a" else 1 / float(theirs)
        raise UsageError(
            f"{weights.path}: was trained with model.{knob} {value:g}, and the recipe has another",
            f"add --set model.{knob}={value:g}",
        )


def _describe(weights: PublishedWeights) -> str:
    if weights.is_backbone:
        return f"backbone {weights.size.upper()}"
    height, width = weights.input_size
    return (
        f"D-FINE-{weights.size.upper()} with {weights.num_classes} classes at {width}x{height} "
        f"({weights.layout} layout)"
    )
