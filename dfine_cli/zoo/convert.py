"""Weights from any layout that is read into those that others read, written whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from dfine_cli.errors import UsageError, cannot_write
from dfine_cli.tensor_file import save_plain
from dfine_cli.zoo import huggingface
from dfine_cli.zoo.build import class_map
from dfine_cli.zoo.read import METADATA_KEY, PublishedWeights, describe
from dfine_cli.zoo.structure import BACKBONE_PREFIX

Write = Callable[[PublishedWeights, Path], None]


def convert(weights: PublishedWeights, out: Path, *, overwrite: bool = False) -> str:
    """Write weights in the layout that the name of ``out`` asks for, without what no model has a place for.

    Args:
        weights: What to write.
        out: ``.pth`` for the published layout, ``.safetensors`` with our key names, or a folder (no suffix) for
            the layout of Hugging Face's library.
        overwrite: Replace what is there.

    Returns:
        The layout that was written.

    Raises:
        UsageError: The suffix is another one, ``out`` is there already, or the layout cannot hold the weights.
        DfineError: It cannot be written.
    """
    layout, write = _writer(out)
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is there already", "give another name, or --force to overwrite it")
    if overwrite and out.exists() and out.is_dir() != (layout == "huggingface"):
        raise UsageError(
            f"{out}: a file cannot take the place of a folder, nor the reverse", "give another name"
        )
    _refuse_foreign(out)
    place = out.resolve() if layout == "huggingface" else out  # no folder can take the place of a link
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as folder:
            part = Path(folder) / "part"
            write(weights.without_left_over(), part)
            if place.is_dir():  # a folder that is not empty cannot be replaced in one step
                place.rename(Path(folder) / "old")
            part.replace(place)
    except OSError as error:
        raise cannot_write(out, error, "free some space, or write elsewhere") from error
    return layout


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder whose files would be lost, or that commands run in: it is replaced as a whole."""
    written = {huggingface.MODEL_FILE, huggingface.CONFIG_FILE, huggingface.PROCESSOR_FILE}
    foreign = sorted({entry.name for entry in out.iterdir()} - written) if out.is_dir() else []
    if foreign:
        raise UsageError(
            f"{out}: holds other files, such as {foreign[0]}, which would be lost", "give a folder of its own"
        )
    if Path.cwd().is_relative_to(out.resolve()):
        raise UsageError(
            f"{out}: is the folder you are in, which is not replaced", "give a folder of its own"
        )


def _writer(out: Path) -> tuple[str, Write]:
    choices: dict[str, tuple[str, Write]] = {
        ".pth": ("published", _write_published),
        ".safetensors": ("safetensors", _write_safetensors),
        "": ("huggingface", _write_huggingface),
    }
    if out.suffix.lower() not in choices:
        raise UsageError(
            f"{out}: weights are not written as `{out.suffix}`",
            "end it in .pth (published layout), .safetensors, or nothing (a folder for transformers)",
        )
    return choices[out.suffix.lower()]


def _write_published(weights: PublishedWeights, part: Path) -> None:
    state = _named(weights)
    # Readers of the published layout look at ``model`` alone, and pass over what else there is.
    save_plain(state if weights.is_backbone else {"model": state, METADATA_KEY: describe(weights)}, part)


def _write_safetensors(weights: PublishedWeights, part: Path) -> None:
    metadata = {} if weights.is_backbone else {METADATA_KEY: describe(weights)}
    _save(_named(weights), part, metadata)


def _write_huggingface(weights: PublishedWeights, part: Path) -> None:
    if weights.is_backbone:
        raise UsageError(
            f"{weights.path}: a backbone alone has no layout there", "write .pth or .safetensors instead"
        )
    if weights.activation not in ("relu", None):
        raise UsageError(
            f"{weights.path}: transformers has no D-FINE with {weights.activation} in all of its decoder",
            "write .pth or .safetensors instead",
        )
    height, width = weights.input_size
    if height != width and weights.knobs.get("position_embedding") == "published":
        raise UsageError(
            f"{weights.path}: trained at {height}x{width} with the published position embedding, "
            "which transformers does not have",
            "train with model.position_embedding=aligned, or write .pth or .safetensors",
        )
    part.mkdir()
    config = huggingface.library_config(weights.size, _class_names(weights), weights.state, weights.knobs)
    if weights.class_names is not None:
        classes = class_map(weights)
        config[huggingface.CATEGORIES_KEY] = huggingface.categories_of(classes.names, classes.category_ids)
    contents = {
        huggingface.CONFIG_FILE: config,
        huggingface.PROCESSOR_FILE: huggingface.processor_config(weights.input_size),
    }
    for name, content in contents.items():
        (part / name).write_text(json.dumps(content, indent=2) + "\n")
    _save(huggingface.to_huggingface(weights.state), part / huggingface.MODEL_FILE, {})


def _class_names(weights: PublishedWeights) -> tuple[str, ...]:
    """Names of the classes, or where there are none the library's place-holders."""
    return weights.class_names or tuple(f"LABEL_{index}" for index in range(weights.num_classes))


def _named(weights: PublishedWeights) -> dict[str, Tensor]:
    """The state dict with the keys that it has in a file."""
    if weights.is_backbone:
        return {key.removeprefix(BACKBONE_PREFIX): value for key, value in weights.state.items()}
    return dict(weights.state)


def _save(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write ``.safetensors``, which wants every tensor to have memory of its own."""
    from safetensors.torch import save

    own = {key: value.detach().clone().contiguous() for key, value in state.items()}
    # Its own writer answers a full disk with an error that is no OSError.
    path.write_bytes(save(own, {"format": "pt", **metadata}))
