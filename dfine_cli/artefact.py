"""What an exported detector says about itself: one JSON object in the file and beside it.

Whoever opens an artefact (evaluation, benchmark, pictures, a script on the target machine) reads classes,
preprocessing, sizes and precision from it, so nobody types them again. The object is the metadata property
``KEY`` of an ONNX file, the entry ``KEY`` of the ``rt_info`` of an OpenVINO model, and the file beside either and
beside a TensorRT engine (``sidecar_of``).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

from dfine_cli.errors import CheckError

SCHEMA_VERSION: Final = 1
KEY: Final = "dfine"
"""Name of the entry that holds the object inside a file."""
PRECISIONS: Final = ("fp32", "fp16", "int8")
"""What can be asked for."""
RULES: Final = ("auto", "coco80", "none")
"""``data.classes.Remap``."""

Contract = Literal["published", "end2end"]
"""published: inputs ``images`` [B, 3, H, W] and ``orig_target_sizes`` [B, 2] int64 (width, height), outputs
``labels`` [B, K] int64, ``boxes`` [B, K, 4] xyxy in pixels of the originals, ``scores`` [B, K];
end2end: ``images`` alone, boxes in pixels of the input. Images are RGB in [0, 1] either way."""


class BatchRange(NamedTuple):
    """Images that one pass may have."""

    least: int
    usual: int
    """What an engine is tuned for."""
    most: int

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one batch size."""
        return self.least == self.most


@dataclass(frozen=True)
class Artefact:
    """The description of one exported file.

    Attributes:
        name: What it is, such as ``dfine-n``.
        size: Row of ``model.sizes.SIZES``; None for another network.
        contract: Names and meaning of its inputs and outputs.
        input_size: (height, width) in pixels.
        batch: Images in one pass.
        classes: ``ClassMap.to_dict()``: names, original category ids, and the rule between them.
        preprocessing: ``Preprocessing.describe()``.
        exif: Whether images are turned as their EXIF tag says before they are resized.
        precision: What was asked for: ``fp32``, ``fp16`` or ``int8``.
        precision_found: Shares of nodes and weights by type, read from the finished file.
        islands: Parts kept in FP32 in a file of lower precision, with the reason of each.
        opset: ONNX operator set; None where there is none.
        operating_point: The threshold that an evaluation stored in the checkpoint, as it is there.
        source: ``file`` and ``sha256`` of the checkpoint.
        versions: Versions of what made the file.
        licence: Licence of the code and of the weights, as far as known.
        runtime: What only one kind of artefact has, such as the GPU that an engine was built on.
    """

    name: str
    size: str | None
    contract: Contract
    input_size: tuple[int, int]
    batch: BatchRange
    classes: dict[str, Any]
    preprocessing: dict[str, Any]
    exif: Literal["apply", "ignore"] = "apply"
    precision: str = "fp32"
    precision_found: dict[str, Any] = field(default_factory=dict)
    islands: dict[str, str] = field(default_factory=dict)
    opset: int | None = None
    operating_point: dict[str, Any] | None = None
    source: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    licence: str = ""
    runtime: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The object as it is stored."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str, where: str | Path) -> Artefact:
        """The description that ``to_json`` wrote.

        Args:
            text: The object.
            where: What it was read from, for messages.

        Raises:
            CheckError: It is damaged, or of another version.
        """
        try:
            values = json.loads(text)
            if not isinstance(values, dict) or "schema_version" not in values:
                raise ValueError("it is no object with a schema_version")
            version = values.pop("schema_version")
            if version != SCHEMA_VERSION:
                raise CheckError(
                    f"{where}: description of version {version}, this version reads {SCHEMA_VERSION}",
                    "export the checkpoint again, or update dfine-cli",
                )
            _require_types(values)
            values["batch"] = BatchRange(*values["batch"])
            values["input_size"] = tuple(values["input_size"])
            return cls(**values)
        except (ValueError, TypeError, RecursionError) as error:
            raise _damaged(where, error) from error


def _damaged(where: str | Path, reason: object) -> CheckError:
    return CheckError(f"{where}: its description is damaged ({reason})", "export the checkpoint again")


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0  # in JSON true and false are no numbers


def _are_counts(value: object, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(map(_is_count, value))


def _are_classes(value: object) -> bool:
    """Whether ``data.classes.ClassMap`` can be made of it; it is not here to ask on a machine with an engine."""
    if not isinstance(value, dict):
        return False
    names, ids = value.get("names"), value.get("category_ids")
    return (
        isinstance(names, list)
        and isinstance(ids, list)
        and 0 < len(names) == len(ids) == len(set(map(repr, ids)))
        and all(isinstance(name, str) for name in names)
        and all(type(number) is int for number in ids)
        and value.get("rule") in RULES
    )


def _is_operating_point(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("classes") or [], list):
        return False
    thresholds = [value.get("threshold"), *(each for each in value.get("classes") or [] if each is not None)]
    return all(type(number) in (int, float) for number in thresholds)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


_FITS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "name": (_is_text, "a text"),
    "size": (lambda value: value is None or _is_text(value), "a text or null"),
    "contract": (lambda value: value in get_args(Contract), f"one of {', '.join(get_args(Contract))}"),
    "input_size": (lambda value: _are_counts(value, 2), "a height and a width"),
    "batch": (
        lambda value: _are_counts(value, 3) and value == sorted(value),
        "the least, usual and most images",
    ),
    "classes": (_are_classes, "as many names as category ids, each once, and their rule"),
    "preprocessing": (_is_object, "an object"),
    "exif": (lambda value: value in ("apply", "ignore"), "apply or ignore"),
    "precision": (lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "precision_found": (_is_object, "an object"),
    "islands": (_is_object, "an object"),
    "opset": (lambda value: value is None or _is_count(value), "a number or null"),
    "operating_point": (_is_operating_point, "thresholds or null"),
    "source": (_is_object, "an object"),
    "versions": (_is_object, "an object"),
    "licence": (_is_text, "a text"),
    "runtime": (
        lambda value: _is_object(value) and type(value.get("bytes", 0)) is int,
        "an object, and in it bytes a number",
    ),
}
"""What each value must be, in code and in words."""


def _require_types(values: dict[str, Any]) -> None:
    """Refuse values that whoever reads them would fall over.

    Raises:
        ValueError: One is of another type, or makes no sense.
    """
    for name, (fits, words) in _FITS.items():
        if name in values and not fits(values[name]):
            raise ValueError(f"{name} must be {words}, not {json.dumps(values[name]):.60}")


def sidecar_of(file: Path) -> Path:
    """Where the description beside ``file`` is: ``model.onnx`` has ``model.onnx.json``."""
    return file.with_name(f"{file.name}.json")


def read_sidecar(file: Path) -> Artefact | None:
    """The description beside ``file``; None if there is none.

    Raises:
        CheckError: It cannot be read.
    """
    sidecar = sidecar_of(file)
    if not sidecar.is_file():
        return None
    try:
        text = sidecar.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(sidecar, "it is no UTF-8 text") from error
    except OSError as error:
        raise CheckError(f"{sidecar}: {error.strerror or error}", "see that the file can be read") from error
    return Artefact.from_json(text, sidecar)
