"""TensorRT as a format of ``dfine export``: an engine for this machine, or a bundle for another."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from dfine_cli.artefact import Artefact
from dfine_cli.data.preprocess import resize
from dfine_cli.errors import UsageError
from dfine_cli.export.build_progress import OnStep
from dfine_cli.export.bundle import check_folder, is_untouched, write_bundle
from dfine_cli.export.onnx import write_onnx
from dfine_cli.export.place import failed_name
from dfine_cli.export.proof_images import ProofImages, some_pictures
from dfine_cli.export.tensorrt import (
    BuildOptions,
    BuiltEngine,
    build_engine,
    check_workspace,
    require_machine,
)
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

    def check(self, format: str, out: Path | None, force: bool) -> None:
        """Refuse what is not possible, or would be of no effect, before the work begins.

        Args:
            format: Key of ``run.FORMATS``.
            out: File to write, if the user names one.
            force: Whether it may replace others.

        Raises:
            UsageError: An option goes with another one, or the bundle's folder is not empty.
            MissingError: An engine is wanted, and TensorRT or a GPU is not there.
        """
        device = None if self.device == "auto" else self.device
        if format != "tensorrt":
            given = {"--bundle": self.bundle, "--workspace": self.workspace_mb, "--device": device}
            _refuse(given, "goes with --format tensorrt only", "")
        elif self.bundle is None:
            require_machine(self.options())
        else:
            given = {"--out": out, "--device": device, "--force": force or None}
            _refuse(given, "does not go with --bundle", "; the script in the bundle has its own options")
            check_workspace(self.workspace_mb, None)
            check_folder(self.bundle)
            if not is_untouched(failed := failed_name(self.bundle)):
                check_folder(failed)


def _refuse(given: Mapping[str, object], why: str, more: str) -> None:
    """Refuse the first option that is given."""
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} {why}", f"leave out {name}{more}")


def write_engine(
    graph: onnx.ModelProto, artefact: Artefact, file: Path, options: BuildOptions, on_build: OnStep | None
) -> BuiltEngine:
    """Build the engine of a graph; see ``build_engine`` for what can go wrong."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"{artefact.name}.onnx")
        write_onnx(graph, artefact, source)
        return build_engine(source, artefact, file, options, on_build)


def write_carried(
    file: Path, artefact: Artefact, plan: EnginePlan, pictures: ProofImages, *, failed: bool
) -> Path:
    """Write the bundle of an ONNX file, with some of the proof's pictures as its sample.

    A bundle that an earlier proof of this name left as failed is taken away.

    Args:
        file: The graph.
        artefact: Its description.
        plan: Where the bundle goes, and what the builder there is told.
        pictures: Those of the proof.
        failed: Whether the proof failed, so that the name of the folder must say so.

    Raises:
        DfineError: It cannot be written.
    """
    assert plan.bundle is not None
    if is_untouched(old := failed_name(plan.bundle)):
        shutil.rmtree(old)
    if plan.workspace_mb is not None:
        runtime = {**artefact.runtime, "workspace_mb": plan.workspace_mb}
        artefact = dataclasses.replace(artefact, runtime=runtime)
    folder = old if failed else plan.bundle
    named = artefact.name if artefact.precision == "fp32" else f"{artefact.name}-{artefact.precision}"
    images, sizes = _sample(artefact, pictures)
    return write_bundle(file, artefact, folder, images, sizes, name=f"{named}.onnx")


def _sample(artefact: Artefact, pictures: ProofImages) -> tuple[NDArray[np.uint8], list[Size]]:
    found = some_pictures(pictures, artefact.batch.usual, artefact.exif)
    ready = np.stack([resize(image, artefact.input_size) for image in found])
    return ready, [(image.shape[0], image.shape[1]) for image in found]
