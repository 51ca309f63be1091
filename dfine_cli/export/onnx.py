"""From a detector in torch to an ONNX graph, checked, with its description inside and beside it."""

from __future__ import annotations

import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import onnxsim
import torch

from dfine_cli import __version__
from dfine_cli.artefact import KEY, Artefact, sidecar_of
from dfine_cli.data.preprocess import Preprocessing
from dfine_cli.errors import DfineError
from dfine_cli.export.deploy import CONTRACTS, DeployModel
from dfine_cli.export.padding import fold_padding
from dfine_cli.export.source import Source
from dfine_cli.export.spec import GraphSpec
from dfine_cli.model.dfine import DFINE, check_input_size
from dfine_cli.whole_file import whole_files

BATCH = "batch"
"""Name of the first dimension where it is not fixed."""
_VERSIONS = ("torch", "onnx", "onnxsim")


def build_graph(model: DFINE, spec: GraphSpec) -> onnx.ModelProto:
    """The detector as an FP32 graph.

    Raises:
        UsageError: The input size is not a multiple of 32.
    """
    check_input_size(spec.input_size)
    signature = CONTRACTS[spec.contract]
    batch = spec.batch.usual
    arguments = (torch.zeros(batch, 3, *spec.input_size), torch.full((batch, 2), 640))
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # thousands of lines about what a trace does not follow
        torch.onnx.export(
            DeployModel(model, spec).eval(),
            arguments[: len(signature.inputs)],
            file := str(Path(folder, "graph.onnx")),
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            dynamic_axes=None
            if spec.batch.is_fixed
            else {name: {0: BATCH} for name in (*signature.inputs, *signature.outputs)},
            opset_version=spec.opset,
            dynamo=False,
        )
        graph = onnx.load_model(file)
    graph = _simplified(graph)
    fold_padding(graph)
    _name_shapes(graph, spec)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _simplified(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without what is constant in it; constants are stored as such, not as nodes."""
    simple: onnx.ModelProto
    simple, same = onnxsim.simplify(graph)
    if not same:
        raise DfineError("the simplified graph does not compute what the graph does", "report this as a bug")
    kept = []
    for node in simple.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            node.attribute[0].t.name = node.output[0]
            simple.graph.initializer.append(node.attribute[0].t)
        else:
            kept.append(node)
    del simple.graph.node[:]
    simple.graph.node.extend(kept)
    simple.producer_name, simple.producer_version = "dfine-cli", __version__
    return simple


def _name_shapes(graph: onnx.ModelProto, spec: GraphSpec) -> None:
    """Give outputs their whole shapes, of which a trace with a dynamic batch knows only some."""
    for value in graph.graph.output:
        shape = value.type.tensor_type.shape.dim
        for axis, dimension in enumerate(shape):
            if axis == 0 and not spec.batch.is_fixed:
                dimension.dim_param = BATCH
        if len(shape) == 3:
            shape[2].dim_value = 4


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
    try:
        with whole_files(*contents) as parts:
            for part, content in zip(parts, contents.values(), strict=True):
                part.write_bytes(content)
    except OSError as error:
        raise DfineError(f"{file}: {error.strerror or error}", "choose another place with --out") from error
