"""What an exported detector says about itself: one JSON object in the file and beside it.

Whoever opens an artefact (evaluation, benchmark, pictures, a script on the target machine) reads classes,
preprocessing, sizes and precision from it, so nobody types them again. The object is the metadata property
``KEY`` of an ONNX file, the entry ``KEY`` of the ``rt_info`` of an OpenVINO model, and the file beside either and
beside a TensorRT engine (``sidecar_of``).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from dfine_cli.errors import CheckError

SCHEMA_VERSION: Final = 1
KEY: Final = "dfine"
"""Name of the entry that holds the object inside a file."""

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
            version = values.pop("schema_version")
            if version != SCHEMA_VERSION:
                raise CheckError(
                    f"{where}: description of version {version}, this version reads {SCHEMA_VERSION}",
                    "export the checkpoint again, or update dfine-cli",
                )
            values["batch"] = BatchRange(*values["batch"])
            values["input_size"] = tuple(values["input_size"])
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckError(
                f"{where}: its description is damaged ({error})", "export the checkpoint again"
            ) from error


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
    return Artefact.from_json(sidecar.read_text(encoding="utf-8"), sidecar)
