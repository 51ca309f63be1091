"""Reading weights of every layout there is, all into the published key names.

Nothing in a file is run: pickles are read for tensors and plain values only.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dfine_cli import checkpoint_format as keys
from dfine_cli.data.classes import COCO80, ClassMap
from dfine_cli.data.names import match_names
from dfine_cli.errors import CheckError, UsageError
from dfine_cli.model.sizes import SIZES
from dfine_cli.model.weights import NUM_CLASSES, Activation, LabelSet
from dfine_cli.tensor_file import load_plain
from dfine_cli.types import Size
from dfine_cli.zoo import huggingface, structure
from dfine_cli.zoo.structure import BACKBONE_PREFIX, Fit

State = dict[str, Tensor]

METADATA_KEY = "dfine"
"""Under which files that we convert describe themselves, as JSON."""
_COCO_NAMES = tuple(name for _, name in COCO80)


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """The weights in a file, on the CPU, and what is known about them."""

    path: Path
    """Where they were read from."""
    layout: str
    """``published`` (key ``model``), ``published-ema`` (``ema.module``), ``state-dict``, ``checkpoint`` (ours),
    ``safetensors``, ``huggingface`` or ``backbone``."""
    size: str
    """Key of ``SIZES``; of a backbone alone the key of ``hgnetv2.VARIANTS`` in lower case."""
    num_classes: int
    """C, rows of the classification heads; 0 for a backbone alone."""
    class_names: tuple[str, ...] | None
    """Name of each row of the heads; None where the file does not say and ``label_set`` does not either."""
    category_ids: tuple[int, ...] | None = None
    """Id of each row of the heads in the data; None where the file does not say, and ``label_set`` may."""
    label_set: LabelSet | None
    """The published classes that the rows stand for: as the name of the file says, or, where it says nothing,
    because no other published heads have that many rows."""
    input_size: Size
    """(height, width) in pixels that it was trained with last."""
    state: State
    """By the published key names; keys of a backbone alone have the prefix ``backbone.`` too."""
    activation: Activation | None = None
    """Of the decoder they were trained with; None where nothing says, as in published files under other names."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``build_model`` in which its model differs from the size."""

    @property
    def is_backbone(self) -> bool:
        """Whether it is a backbone alone."""
        return self.layout == "backbone"

    def fit(self) -> Fit:
        """How the model that they are meant for is served by them."""
        return structure.compare(structure.shapes_of(self.state), self._wanted())

    def without_left_over(self) -> PublishedWeights:
        """The same, without what the model they are meant for has no place for."""
        wanted = self._wanted()
        kept = {key: value for key, value in self.state.items() if key in wanted}
        return dataclasses.replace(self, state=kept)

    def _wanted(self) -> structure.Shapes:
        if self.is_backbone:
            return structure.backbone_shapes(self.size, any(".lab." in key for key in self.state))
        return structure.model_shapes(self.size, self.num_classes, self.input_size, self.knobs)


def read_weights(path: Path) -> PublishedWeights:
    """The weights in a file or folder; whether they are complete is for ``PublishedWeights.fit`` to say.

    Args:
        path: ``.pth`` as published (averaged weights before raw ones), ``.pt`` of ours (the better ones),
            ``.safetensors``, a file or folder of Hugging Face's D-FINE, a backbone, or a run folder.

    Raises:
        UsageError: There is nothing.
        CheckError: It is cut off, something else, asks for code to be run, or holds no weights of a D-FINE.
    """
    file = _file_of(path)
    if file.suffix == ".safetensors":
        state, metadata = _read_safetensors(file)
        layout, described = "safetensors", metadata.get(METADATA_KEY)
    else:
        content = load_plain(file)
        if isinstance(content, dict) and keys.FORMAT_KEY in content:
            return _of_checkpoint(file, keys.check_format(file, content))
        layout, state = _find_state(path, content)
        described = content.get(METADATA_KEY) if isinstance(content, dict) else None
    if huggingface.is_huggingface(state):
        return _of_huggingface(path, file, state)
    if described is not None:
        return _of_described(path, layout, state, described)
    return _of_published(path, layout, state)


def _file_of(path: Path) -> Path:
    """The file to read: ``path``, or the weights in it if it is a folder of ours or of Hugging Face."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(
            f"{path}: no such file or folder", "give a file of weights, or a name of `dfine zoo list`"
        )
    for name in (huggingface.MODEL_FILE, "pytorch_model.bin", "weights/best.pt"):
        if (path / name).is_file():
            return path / name
    if (path / f"{huggingface.MODEL_FILE}.index.json").is_file():
        raise UsageError(f"{path}: weights in several files", "save them in one: `max_shard_size='5GB'`")
    raise UsageError(
        f"{path}: no weights in this folder",
        f"it should hold {huggingface.MODEL_FILE} and {huggingface.CONFIG_FILE}, or weights/best.pt",
    )


def _read_safetensors(file: Path) -> tuple[State, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return {key: tensors.get_tensor(key) for key in tensors.keys()}, tensors.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckError(
            f"{file}: cannot be read as .safetensors, it is cut off or something else ({error})",
            "copy or download it again",
        ) from error


def _find_state(path: Path, content: object) -> tuple[str, State]:
    """The layout of a file, and the state dict in it; averaged weights are preferred to raw ones."""
    if isinstance(content, dict):
        averaged = content.get("ema")
        choices = (
            ("published-ema", averaged.get("module") if isinstance(averaged, dict) else None),
            ("published", content.get("model")),
            ("state-dict", content),
        )
        for layout, state in choices:
            if isinstance(state, dict) and _is_state(state):
                return layout, state
    raise CheckError(
        f"{path}: no weights where they are looked for",
        "a file of weights is a state dict, or has one under `model` or `ema.module`",
    )


def _is_state(values: dict[str, Any]) -> bool:
    return bool(values) and all(isinstance(value, Tensor) for value in values.values())


def _of_checkpoint(path: Path, file: dict[str, Any]) -> PublishedWeights:
    try:
        classes = ClassMap.from_dict(file[keys.CLASSES])
        recipe = file[keys.RECIPE]
        return PublishedWeights(
            path=path,
            layout="checkpoint",
            size=file[keys.SIZE],
            num_classes=len(classes),
            class_names=classes.names,
            category_ids=classes.category_ids,
            label_set=None,
            input_size=tuple(recipe["data"]["input_size"]),
            state=dict(file[file[keys.BEST_WEIGHTS]]),
            activation=recipe["model"].get("activation", "relu"),
            knobs=_knobs(recipe["model"]),
        )
    except KeyError as error:
        raise CheckError(
            f"{path}: the checkpoint has no {error}", "it is incomplete; use another copy"
        ) from error


_KNOBS = ("decoder_layers", "points", "bins", "num_queries", "position_embedding", "frozen_backbone")
"""Of the ``model`` section of a recipe: what weights alone do not tell of the model."""


def _knobs(model: Mapping[str, Any]) -> dict[str, Any]:
    knobs = {key: model[key] for key in _KNOBS if model.get(key) is not None}
    if "points" in knobs:
        knobs["points"] = tuple(knobs["points"])
    return knobs


def _of_described(path: Path, layout: str, state: State, text: str) -> PublishedWeights:
    try:
        described = json.loads(text)
        names, ids = described["classes"], described.get("category_ids")
        if any(known is not None and len(known) != described["num_classes"] for known in (names, ids)):
            raise ValueError("not as many names or ids as classes")
        return PublishedWeights(
            path=path,
            layout=layout,
            size=described["size"],
            num_classes=described["num_classes"],
            class_names=tuple(names) if names else None,
            category_ids=tuple(ids) if ids else None,
            label_set=described["label_set"],
            input_size=tuple(described["input_size"]),
            state=state,
            activation=described["activation"],
            knobs=_knobs(described["knobs"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckError(
            f"{path}: its description cannot be used: {error!r}", "convert the weights again"
        ) from error


def describe(weights: PublishedWeights) -> str:
    """What a file that we convert says about itself under ``METADATA_KEY``, as JSON."""
    return json.dumps(
        {
            "size": weights.size,
            "num_classes": weights.num_classes,
            "classes": weights.class_names,
            "category_ids": weights.category_ids,
            "label_set": weights.label_set,
            "input_size": weights.input_size,
            "activation": weights.activation,
            "knobs": dict(weights.knobs),
        }
    )


def _of_huggingface(path: Path, file: Path, theirs: State) -> PublishedWeights:
    config, processor = (
        _read_json(file.with_name(name)) for name in (huggingface.CONFIG_FILE, huggingface.PROCESSOR_FILE)
    )
    size, state = _translate(path, theirs)
    weights = _of_published(path, "huggingface", state, size)
    names = huggingface.class_names_of(config)
    if names is not None and len(names) == weights.num_classes:
        weights = _named(weights, names, huggingface.category_ids_of(config, names))
    return dataclasses.replace(
        weights,
        input_size=huggingface.input_size_of(processor) or weights.input_size,
        activation="relu",  # the library has no other
        knobs=huggingface.knobs_of(config, size),
    )


def _named(
    weights: PublishedWeights, names: tuple[str, ...], ids: tuple[int, ...] | None
) -> PublishedWeights:
    """The weights with the classes of a ``config.json``: names that are COCO's in other words are COCO's."""
    if ids is None and len(names) == len(COCO80):
        sources = [match.source for match in match_names(names, _COCO_NAMES)]
        if sources == list(range(len(COCO80))):
            return dataclasses.replace(weights, class_names=_COCO_NAMES, label_set="coco")
    return dataclasses.replace(weights, class_names=names, category_ids=ids, label_set=None)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file beside the weights; empty if there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise CheckError(f"{path}: not JSON: {error}", "copy or download it again") from error
    if not isinstance(content, dict):
        raise CheckError(f"{path}: not an object", "copy or download it again")
    return content


def _translate(path: Path, theirs: State) -> tuple[str, State]:
    """The size of weights in Hugging Face's layout, and the weights with our key names."""
    candidates = {
        name: huggingface.from_huggingface(theirs, list(structure.usual_shapes(name))) for name in SIZES
    }
    likeness = {
        name: structure.likeness(structure.shapes_of(state), structure.usual_shapes(name))
        for name, state in candidates.items()
    }
    size = max(likeness, key=likeness.__getitem__)
    if likeness[size] < structure.LIKENESS:
        raise _unlike(path)
    return size, candidates[size]


def _of_published(path: Path, layout: str, state: State, size: str | None = None) -> PublishedWeights:
    found = structure.shapes_of(state)
    if size is None and any(key.startswith(("stem.", "stages.")) for key in found):
        return _of_backbone(path, state)
    size = size or structure.recognise_size(found)
    num_classes = structure.count_classes(found)
    if size is None:
        raise _unlike(path)
    if num_classes is None:
        raise CheckError(
            f"{path}: weights of D-FINE-{size.upper()} without classification heads",
            "use a file of the whole model",
        )
    label_set = next((name for name, count in NUM_CLASSES.items() if count == num_classes), None)
    return PublishedWeights(
        path=path,
        layout=layout,
        size=size,
        num_classes=num_classes,
        class_names=_COCO_NAMES if label_set == "coco" else None,
        label_set=label_set,
        input_size=_input_size(state, size),
        state=state,
    )


def _of_backbone(path: Path, state: State) -> PublishedWeights:
    state = {f"{BACKBONE_PREFIX}{key}": value for key, value in state.items()}
    variant = structure.recognise_backbone(structure.shapes_of(state))
    if variant is None:
        raise _unlike(path)
    return PublishedWeights(
        path=path,
        layout="backbone",
        size=variant,
        num_classes=0,
        class_names=None,
        label_set=None,
        input_size=_USUAL_INPUT,
        state=state,
    )


def _unlike(path: Path) -> CheckError:
    return CheckError(
        f"{path}: its keys and shapes are those of no D-FINE (N, S, M, L, X) and no HGNetV2",
        "use weights of `dfine zoo list`, or a checkpoint of `dfine train`",
    )


_USUAL_INPUT: Size = (640, 640)


def _input_size(state: State, size: str) -> Size:
    """(height, width) in pixels that the stored anchors were made for; 640x640 if there are none.

    The number of anchors tells the area, and how far the centres of neighbours are apart the width.
    """
    anchors = state.get("decoder.anchors")
    if anchors is None or anchors.ndim != 3:
        return _USUAL_INPUT
    strides = SIZES[size].strides
    area = anchors.shape[1] / sum(stride**-2 for stride in strides)
    side = round(area**0.5)
    x = anchors[0, :, 0].float().sigmoid()
    steps = x[1:] - x[:-1]
    # Rows of cells that cannot be used hold infinity, whose steps are 0; most others are on the finest level.
    step = steps[steps > 0].median().item() if bool((steps > 0).any()) else 0.0
    width = round(1 / step) * strides[0] if step else side
    return (side, side) if abs(width - side) <= strides[0] else (round(area / width), width)
