"""TensorRT as a format of ``dfine export``: an engine for this machine, or a bundle for another."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from dfine_cli.artefact import Artefact
from dfine_cli.data.coco import load_coco
from dfine_cli.data.images import read_image
from dfine_cli.data.preprocess import resize
from dfine_cli.errors import UsageError
from dfine_cli.export.build_progress import OnStep
from dfine_cli.export.bundle import check_folder, write_bundle
from dfine_cli.export.onnx import write_onnx
from dfine_cli.export.proof_images import ProofImages, drawn_pictures, evenly
from dfine_cli.export.tensorrt import BuildOptions, BuiltEngine, build_engine, require_machine
from dfine_cli.types import Size
from dfine_cli.zoo.cache import home


@dataclass(frozen=True)
class EnginePlan:
    """What only TensorRT is told.

    Attributes:
        device: ``auto``, ``cuda`` or ``cuda:1``: the GPU that an engine is for.
        workspace_mb: The most memory that a layer may use for itself; None for all.
        bundle: Folder to write what another machine needs, in place of an engine.
    """

    device: str = "auto"
    workspace_mb: int | None = None
    bundle: Path | None = None

    def options(self, log_file: Path | None = None) -> BuildOptions:
        """How an engine is built; measured times are kept beside the downloaded weights."""
        return BuildOptions(self.device, self.workspace_mb, home() / "tensorrt", log_file)

    def check(self, format: str) -> None:
        """Refuse what is not possible before the work begins.

        Raises:
            UsageError: An option goes with another format, or the bundle's folder is not empty.
            MissingError: An engine is wanted, and TensorRT or a GPU is not there.
        """
        if format != "tensorrt":
            given = {"--bundle": self.bundle, "--workspace": self.workspace_mb}
            wrong = [name for name, value in given.items() if value is not None]
            if wrong:
                raise UsageError(f"{wrong[0]} goes with --format tensorrt only", f"leave out {wrong[0]}")
        elif self.bundle is None:
            require_machine(self.options())
        else:
            check_folder(self.bundle)


def write_engine(
    graph: onnx.ModelProto, artefact: Artefact, file: Path, options: BuildOptions, on_build: OnStep | None
) -> BuiltEngine:
    """Build the engine of a graph; see ``build_engine`` for what can go wrong."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"{artefact.name}.onnx")
        write_onnx(graph, artefact, source)
        return build_engine(source, artefact, file, options, on_build)


def write_carried(file: Path, artefact: Artefact, folder: Path, pictures: ProofImages) -> Path:
    """Write the bundle of a proven ONNX file, with the first of the proof's pictures as its sample."""
    named = artefact.name if artefact.precision == "fp32" else f"{artefact.name}-{artefact.precision}"
    images, sizes = _sample(artefact, pictures)
    return write_bundle(file, artefact, folder, images, sizes, name=f"{named}.onnx")


def _sample(artefact: Artefact, pictures: ProofImages) -> tuple[NDArray[np.uint8], list[Size]]:
    if pictures.files is None:
        found = drawn_pictures()[: artefact.batch.usual]
    else:
        content = load_coco(pictures.files.json)
        rows = evenly(len(content.images), artefact.batch.usual)
        files = [content.locate(row, pictures.files.images) for row in rows]
        found = [read_image(file, artefact.exif) for file in files]
    ready = np.stack([resize(image, artefact.input_size) for image in found])
    return ready, [(image.shape[0], image.shape[1]) for image in found]
