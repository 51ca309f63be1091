"""What an exported file is: its own description, or for a file of another tool what its graph shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dfine_cli.artefact import Artefact, BatchRange, Contract, read_sidecar
from dfine_cli.backends.detector import OpenOptions
from dfine_cli.data.classes import COCO80, ClassMap
from dfine_cli.data.preprocess import Preprocessing
from dfine_cli.errors import CheckError, UsageError
from dfine_cli.types import Size

IMAGES: Final = "images"
SIZES: Final = "orig_target_sizes"
OUTPUTS: Final = ("labels", "boxes", "scores")
CONTRACTS: dict[frozenset[str], Contract] = {
    frozenset({IMAGES, SIZES}): "published",
    frozenset({IMAGES}): "end2end",
}
"""Names of the inputs of each contract; the outputs are the same."""
ANY_BATCH: Final = BatchRange(1, 1, 1 << 16)
"""Of a graph that leaves the number of images free."""


class Graph(NamedTuple):
    """Names and shapes of a loaded file; a dimension that it leaves free is None."""

    inputs: Mapping[str, Sequence[int | None]]
    outputs: Sequence[str]


def describe(file: Path, embedded: str | None, graph: Graph, options: OpenOptions) -> Artefact:
    """The description in the file, else that beside it, else one made from the graph.

    Args:
        file: The exported file.
        embedded: Its entry ``artefact.KEY``; None if it has none.
        graph: What it takes and gives.
        options: Classes and input size for a file that does not say them.

    Raises:
        DfineError: It is another network, or its description is damaged or not its own.
        UsageError: The options contradict the file, or the input size is missing.
    """
    contract = _contract(file, graph)
    own = Artefact.from_json(embedded, file) if embedded else read_sidecar(file)
    fixed = _fixed_size(file, graph)
    if own is None:
        return _foreign(file, contract, graph, fixed, options)
    if own.contract != contract or fixed not in (None, own.input_size):
        raise CheckError(
            f"{file}: its description is that of another file",
            "keep the JSON file beside the file it came with",
        )
    if options.classes is not None:
        raise UsageError(f"{file}: says itself which classes it has", "leave out --classes")
    _require_size(file, own.input_size, options)
    return own


def _foreign(
    file: Path, contract: Contract, graph: Graph, fixed: Size | None, options: OpenOptions
) -> Artefact:
    size = fixed or options.input_size
    if size is None:
        raise UsageError(f"{file}: takes images of any size", "say which one: --input-size 640")
    _require_size(file, size, options)
    batch = graph.inputs[IMAGES][0]
    classes = options.classes or ClassMap(
        tuple(name for _, name in COCO80), tuple(number for number, _ in COCO80), "coco80"
    )
    return Artefact(
        name=file.stem,
        size=None,
        contract=contract,
        input_size=size,
        batch=ANY_BATCH if batch is None else BatchRange(batch, batch, batch),
        classes=classes.to_dict(),
        preprocessing=Preprocessing(size).describe(),
    )


def _contract(file: Path, graph: Graph) -> Contract:
    contract = CONTRACTS.get(frozenset(graph.inputs))
    if contract is None or not set(OUTPUTS) <= set(graph.outputs) or len(graph.inputs[IMAGES]) != 4:
        raise CheckError(
            f"{file}: another network: inputs {_listed(graph.inputs)}; outputs {_listed(graph.outputs)}",
            f"a detector takes {IMAGES} (and {SIZES}) and gives {', '.join(OUTPUTS)}: see `dfine export`",
        )
    return contract


def _fixed_size(file: Path, graph: Graph) -> Size | None:
    """(height, width) that the graph takes; None if it leaves them free."""
    _, channels, height, width = graph.inputs[IMAGES]
    if channels not in (3, None):
        raise CheckError(f"{file}: takes images of {channels} channels", "a detector takes RGB, [B, 3, H, W]")
    return None if height is None or width is None else (height, width)


def _require_size(file: Path, size: Size, options: OpenOptions) -> None:
    wanted = options.input_size
    if wanted is not None and wanted != size:
        raise UsageError(
            f"{file}: takes images of {size[0]}x{size[1]}, not {wanted[0]}x{wanted[1]}",
            f"leave out --input-size, or export it again with --input-size {wanted[0]},{wanted[1]}",
        )


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    """The first names, shortened."""
    shown = [name if len(name) <= 24 else f"{name[:24]}…" for name in list(names)[:4]]
    return ", ".join(shown) + (", …" if len(names) > 4 else "")
