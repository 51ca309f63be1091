"""From a detector in torch to an ONNX graph, checked, with its description inside and beside it."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch

from dfine_cli import __version__
from dfine_cli.artefact import KEY, Artefact, sidecar_of
from dfine_cli.data.preprocess import Preprocessing
from dfine_cli.errors import DfineError
from dfine_cli.export.deploy import CONTRACTS, DeployModel
from dfine_cli.export.source import Source
from dfine_cli.export.spec import GraphSpec
from dfine_cli.model.dfine import DFINE, check_input_size

IR_VERSION = 8
"""Of the file format; that of opset 17, which every runtime of the last years reads."""
_VERSIONS = ("torch", "onnx", "onnxsim")


def build_graph(model: DFINE, spec: GraphSpec) -> onnx.ModelProto:
    """The detector as an FP32 graph.

    Raises:
        UsageError: The input size is not a multiple of 32.
    """
    check_input_size(spec.input_size)
    signature = CONTRACTS[spec.contract]
    batch = spec.batch.usual
    arguments = (torch.rand(batch, 3, *spec.input_size), torch.full((batch, 2), 640))
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # thousands of lines about what a trace does not follow
        torch.onnx.export(
            DeployModel(model, spec.input_size).eval(),
            arguments[: len(signature.inputs)],
            file := str(Path(folder, "graph.onnx")),
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            dynamic_axes=None
            if spec.batch.is_fixed
            else {name: {0: "batch"} for name in (*signature.inputs, *signature.outputs)},
            opset_version=spec.opset,
            dynamo=False,
        )
        graph = onnx.load_model(file)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def describe(source: Source, spec: GraphSpec) -> Artefact:
    """What the graph that ``build_graph`` makes of ``source`` says about itself."""
    detector = source.detector
    return Artefact(
        name=detector.name,
        size=detector.model.size,
        contract=spec.contract,
        input_size=spec.input_size,
        batch=spec.batch,
        classes=detector.classes.to_dict(),
        preprocessing=Preprocessing(spec.input_size).describe(),
        exif=detector.exif,
        opset=spec.opset,
        operating_point=source.operating_point,
        source={"file": source.file.name, "sha256": source.sha256},
        versions={"dfine-cli": __version__, **{name: version(name) for name in _VERSIONS}},
        licence=source.licence,
    )


def write_onnx(graph: onnx.ModelProto, artefact: Artefact, file: Path) -> None:
    """Write the graph with its description inside, and the description beside it; whole or not at all.

    Raises:
        DfineError: They cannot be written.
    """
    described = onnx.ModelProto()
    described.CopyFrom(graph)
    onnx.helper.set_model_props(described, {KEY: artefact.to_json()})
    contents: dict[Path, Any] = {
        file: described.SerializeToString(),
        sidecar_of(file): artefact.to_json().encode(),
    }
    parts = {path: path.with_name(f"{path.name}.part") for path in contents}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            parts[path].write_bytes(content)
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        raise DfineError(f"{file}: {error.strerror or error}", "choose another place with --out") from error
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
