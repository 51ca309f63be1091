"""Whole numbers of 8 bits for the convolutions, written into the graph as explicit Q/DQ pairs.

Convolutions are nearly all of the arithmetic. What they read and their weights get 8 bits, with one scale for a
tensor and one for each filter; all else stays in single precision. So do the convolutions that read something
which 8 bits hold badly: how badly is measured on the user's images (``LEAST_SIGNAL_DB``).

Where half precision is at hand, it is the better choice unless 8 bits are shown to be faster there. Measured on
a CPU: D-FINE-N trained on blood cells has AP 58.69, in 8 bits 58.23 (58.09 with its other matrices in 8 bits, too)
and in half precision 58.67 (``tests/benchmarks/bench_precision.py``). Two detectors trained on COCO whose encoders
read outliers went from 36.67 to 35.77 and from 27.50 to 25.76 with all convolutions in 8 bits, and to 37.68 and
26.84 with those left out that read the outliers (on 66 images, where one object of a rare class is 0.2).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
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

MOST_IMAGES: Final = 32
"""Images that are worth calibrating on: with 8, AP was 58.34, and 58.23 with 32, which differ by chance."""

LEAST_SIGNAL_DB: Final = 28.0
"""Signal over rounding noise, in decibels, that the input of a convolution must keep in 8 bits.

Of the 49 convolutions of two detectors with outliers, it leaves out 4 and 6; of the 72 of a D-FINE, none."""

REASONS: Final = {
    "decoder and attention": "their matrices are a small part of the work, and 8 bits in them cost accuracy",
    "convolutions with outliers": f"what they read keeps less than {LEAST_SIGNAL_DB:.0f} dB over the rounding in 8 bits",
}
"""Parts that stay in single precision, and why."""

_STEPS: Final = 127
"""From zero to the largest number; the grid is symmetric."""

# What TensorRT asks for: zero is zero, weights are stored in 8 bits, biases are left alone, and a pair stands only
# before a convolution, so that the activation after it can still be fused with it.
_OPTIONS: Final = {
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


def quantise(model: ModelProto, images: CalibrationImages | None) -> tuple[ModelProto, dict[str, str]]:
    """The graph with its convolutions in 8 bits, and the parts that stay in single precision.

    Args:
        model: The graph in single precision; it is not changed.
        images: What the ranges of the tensors are found on.

    Raises:
        UsageError: There are no images.
        DfineError: An image cannot be read, or the graph branches.
    """
    if images is None or not images.files:
        raise UsageError(
            "int8 is calibrated on images, and there are none",
            "give some with --data, or use --precision fp16",
        )
    prepared = _prepare(model)
    reader = _Reader(prepared, images)
    signals = input_signals(prepared, reader)
    chosen = [name for name, signal in signals.items() if signal >= LEAST_SIGNAL_DB]
    quantised = _write_pairs(prepared, chosen, reader) if chosen else prepared
    onnx.checker.check_model(quantised, full_check=True)
    names = list(REASONS)[: 1 if len(chosen) == len(signals) else 2]
    return quantised, {name: REASONS[name] for name in names}


def input_signals(model: ModelProto, reader: _Reader) -> dict[str, float]:
    """Signal over the noise of rounding to 8 bits, in decibels, of what each convolution reads.

    Args:
        model: A graph whose convolutions have names.
        reader: Inputs of the graph; it is rewound.
    """
    convolutions = {node.name: node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    reach: dict[str, float] = {}
    for name, values in _values(model, set(convolutions.values()), reader):
        reach[name] = max(reach.get(name, 0.0), float(np.abs(values).max()))
    signal = dict.fromkeys(reach, 0.0)
    noise = dict.fromkeys(reach, 1e-12)
    for name, values in _values(model, set(convolutions.values()), reader):
        step = max(reach[name], 1e-12) / _STEPS
        error = values - np.round(values / step) * step
        signal[name] += float(np.square(values, dtype=np.float64).sum())
        noise[name] += float(np.square(error, dtype=np.float64).sum())
    return {
        name: 10 * float(np.log10(max(signal[read], 1e-12) / noise[read]))
        for name, read in convolutions.items()
    }


def _values(model: ModelProto, names: set[str], reader: _Reader) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The named tensors for each image in turn."""
    spied = ModelProto()
    spied.CopyFrom(model)
    inputs = {value.name for value in model.graph.input}
    spied.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names - inputs))
    session = onnxruntime.InferenceSession(spied.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = [port.name for port in session.get_outputs()]
    reader.rewind()
    while (given := reader.get_next()) is not None:
        made = dict(zip(outputs, session.run(outputs, given), strict=True))
        yield from ((name, (given | made)[name]) for name in sorted(names))


def _prepare(model: ModelProto) -> ModelProto:
    """A tidied copy in which every convolution has a name of its own."""
    prepared = tidy(model)
    for node in prepared.graph.node:
        if node.op_type == "Conv":
            node.name = node.output[0]
    add_pre_process_metadata(prepared)  # else the quantiser advises to simplify, which has been done
    return prepared


def _write_pairs(model: ModelProto, chosen: list[str], reader: _Reader) -> ModelProto:
    reader.rewind()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "quantised.onnx"
        quantize_static(
            model,
            file,
            reader,
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=chosen,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=_OPTIONS,
        )
        quantised = onnx.load(file)
    _spare_others(quantised, set(chosen))
    return quantised


def _spare_others(model: ModelProto, chosen: set[str]) -> None:
    """Let what was not chosen read what was there before: the quantiser gives its rounded form to everyone."""
    pairs = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    quantised = {
        node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"
    }
    before = {name: quantised[pair.input[0]] for name, pair in pairs.items() if pair.input[0] in quantised}
    for node in model.graph.node:
        if node.name in chosen:
            continue
        for index, name in enumerate(node.input):
            node.input[index] = before.get(name, name)


class _Reader(CalibrationDataReader):
    """Inputs of the graph for each image in turn."""

    def __init__(self, model: ModelProto, images: CalibrationImages) -> None:
        self._names = [value.name for value in model.graph.input]
        height, width = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[2:])
        self._prepare = Preprocessing((height, width))
        self._files = images.files
        self._exif = images.exif
        self.rewind()

    def rewind(self) -> None:
        """Start again with the first image."""
        self._inputs = self._read()

    def get_next(self) -> dict[str, Any] | None:
        """Inputs for the next image; None after the last."""
        return next(self._inputs, None)

    def _read(self) -> Iterator[dict[str, Any]]:
        for file in self._files:
            pixels = read_image(file, self._exif)
            size = np.array([[pixels.shape[1], pixels.shape[0]]])
            yield dict(zip(self._names, (self._prepare(pixels)[None], size), strict=False))
