"""Checkpoints and sizes as ONNX files, written only to be measured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dfine_cli.artefact import BatchRange
from dfine_cli.backends.torch_backend import TorchDetector
from dfine_cli.bench.runner import ExportPrecision, RunnerOptions, Subject
from dfine_cli.bench.torch_runner import load_source
from dfine_cli.data.classes import ClassMap
from dfine_cli.export import onnx as onnx_export
from dfine_cli.export import source as export_source
from dfine_cli.export.precision import convert
from dfine_cli.export.quantise import CalibrationImages
from dfine_cli.export.run import FORMATS
from dfine_cli.export.spec import GraphSpec
from dfine_cli.types import Size

NOISE_IMAGES = 4
"""Pictures of noise that int8 is calibrated on where there are no others."""


def export_subject(subject: Subject, options: RunnerOptions, precision: ExportPrecision, target: str) -> Path:
    """The ONNX file of a checkpoint or a size, in ``options.folder``; written once for each graph.

    The graph takes exactly the one batch size that is measured, or all of them.

    Args:
        subject: What is exported.
        options: What the backend is told.
        precision: What the graph computes in.
        target: Key of ``export.run.FORMATS``: what is timed is the graph that is written for it.

    Raises:
        UsageError: The input size is not legal.
        DfineError: The checkpoint cannot be read, or the file not be written.
    """
    assert options.folder is not None
    sampling = FORMATS[target].sampling[precision]
    file = options.folder / f"{_word(subject)}-{precision}-{sampling}.onnx"
    if file.is_file():
        return file
    torch.manual_seed(0)  # fresh weights are the same in each precision
    model, name, input_size, classes, exif = load_source(subject, options.input_size, options.num_classes)
    least, most = min(options.batches), max(options.batches)
    spec = GraphSpec(input_size, batch=BatchRange(least, most, most), sampling=sampling)
    detector = TorchDetector(
        model, classes or _numbered(model.num_classes), input_size, torch.device("cpu"), name, exif
    )
    described = onnx_export.describe(export_source.Source(file, detector, "", ""), spec)
    files = options.calibration or write_noise(options.folder / "noise", input_size)
    images = CalibrationImages(files, exif) if precision == "int8" else None
    converted = convert(onnx_export.build_graph(model, spec), precision, images)
    artefact = replace(
        described, precision=precision, precision_found=converted.found, islands=converted.islands
    )
    onnx_export.write_onnx(converted.model, artefact, file)
    return file


def write_noise(folder: Path, size: Size) -> Sequence[Path]:
    """Pictures of noise of a size."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    files = [folder / f"{number}.png" for number in range(NOISE_IMAGES)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(file)
    return files


def _word(subject: Subject) -> str:
    """A name for its files that no other subject has."""
    place = subject.size or str(subject.path)
    return f"{Path(place).stem}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def _numbered(count: int) -> ClassMap:
    """Classes of a model with fresh weights."""
    return ClassMap(tuple(f"class {i}" for i in range(count)), tuple(range(count)), "none")
