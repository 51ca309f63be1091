"""Whole numbers of 8 bits for the convolutions, written into the graph as explicit Q/DQ pairs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from dfine_cli.data.images import read_image
from dfine_cli.data.preprocess import Preprocessing
from dfine_cli.errors import UsageError
from dfine_cli.export.graph import tidy

FLOATING = "decoder and attention"
FLOATING_REASON = "boxes and scores need more than 256 steps, and the matrices are too small to gain"

# What TensorRT asks for: zero is zero, weights stored in 8 bits, biases left alone, and pairs on what a
# convolution reads only, so that its activation can still be fused with it.
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": ["Conv"],
}


@dataclass(frozen=True)
class CalibrationImages:
    """Images of the kind that the detector will see.

    Attributes:
        files: Image files.
        exif: Whether they are turned as their EXIF tag says, as ``Artefact.exif`` has it.
    """

    files: Sequence[Path]
    exif: Literal["apply", "ignore"] = "apply"


class _Reader(CalibrationDataReader):
    """Inputs of the graph for each image in turn."""

    def __init__(self, model: ModelProto, images: CalibrationImages) -> None:
        self._model = model
        self._images = images
        self.rewind()

    def rewind(self) -> None:
        """Start again with the first image."""
        self._inputs = self._read()

    def get_next(self) -> dict[str, Any] | None:
        """Inputs for the next image; None after the last."""
        return next(self._inputs, None)

    def _read(self) -> Iterator[dict[str, Any]]:
        names = [value.name for value in self._model.graph.input]
        height, width = (d.dim_value for d in self._model.graph.input[0].type.tensor_type.shape.dim[2:])
        prepare = Preprocessing((height, width))
        for file in self._images.files:
            pixels = read_image(file, self._images.exif)
            values = [prepare(pixels)[None], np.array([[pixels.shape[1], pixels.shape[0]]])]
            yield dict(zip(names, values, strict=False))


def quantise(model: ModelProto, images: CalibrationImages | None) -> tuple[ModelProto, dict[str, str]]:
    """The graph with its convolutions in 8 bits, and the parts that stay in single precision.

    Args:
        model: The graph in single precision; it is not changed.
        images: What the ranges of the tensors are found on.

    Raises:
        UsageError: There are no images.
        DfineError: An image cannot be read.
    """
    if images is None or not images.files:
        raise UsageError(
            "int8 is calibrated on images, and there are none",
            "give some with --data, or use --precision fp16",
        )
    prepared = tidy(model)
    add_pre_process_metadata(prepared)  # else the quantiser advises to simplify, which has been done
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "quantised.onnx"
        quantize_static(
            prepared,
            file,
            _Reader(model, images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=_OPTIONS,
        )
        quantised = onnx.load(file)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised, {FLOATING: FLOATING_REASON}
