"""From an ONNX graph to OpenVINO's own format: ``model.xml`` with its weights in ``model.bin``."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from dfine_cli.artefact import KEY, Artefact
from dfine_cli.backends.openvino_core import openvino_core
from dfine_cli.errors import DfineError
from dfine_cli.optional import need

_TYPES = {"f32": "fp32", "f16": "fp16", "i8": "int8", "u8": "int8", "i4": "int4"}


def write_openvino(graph: onnx.ModelProto, artefact: Artefact, file: Path) -> Artefact:
    """Write the graph with its description; names of inputs and outputs stay.

    Args:
        graph: What to write.
        artefact: Its description.
        file: The ``.xml`` file; the weights come beside it.

    Returns:
        The description as it is in the file, with the types of the weights that were written.

    Raises:
        MissingError: OpenVINO is not installed.
        DfineError: It cannot convert the graph or write the files.
    """
    openvino = need("openvino", extra="openvino")
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, converted = Path(folder, "graph.onnx"), Path(folder, "graph.xml")
            onnx.save(graph, source)
            core = openvino_core()
            openvino.save_model(core.read_model(source), converted, compress_to_fp16=False)
            # What is written is known once it is written, and the description is to say it.
            model = core.read_model(converted)
            versions = {**artefact.versions, "openvino": openvino.__version__}
            found = {**artefact.precision_found, "weights": _weight_shares(model)}
            described = dataclasses.replace(artefact, versions=versions, precision_found=found)
            model.set_rt_info(described.to_json(), [KEY])
            openvino.save_model(model, file, compress_to_fp16=False)
    except RuntimeError as error:
        raise DfineError(
            f"{file}: OpenVINO cannot write it: {str(error).splitlines()[-1]}",
            "free some space, or try --format onnx",
        ) from error
    return described


def _weight_shares(model: Any) -> dict[str, float]:
    """Shares of the weights by type."""
    counts: Counter[str] = Counter()
    for node in model.get_ordered_ops():
        constant = node.get_type_name() == "Constant"
        kind = _TYPES.get(node.get_element_type().get_type_name()) if constant else None
        if kind is not None:
            counts[kind] += math.prod(node.get_output_shape(0))
    total = sum(counts.values())
    return {kind: count / total for kind, count in counts.most_common()}
