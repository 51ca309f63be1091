"""From a checkpoint to a proven file: graph, precision, format, proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import onnx

from dfine_cli.artefact import Artefact, BatchRange, Contract, sidecar_of
from dfine_cli.backends.detector import OpenOptions, open_detector
from dfine_cli.backends.torch_backend import with_options
from dfine_cli.data.layout import SplitFiles
from dfine_cli.errors import UsageError
from dfine_cli.export.agreement import limits_of
from dfine_cli.export.build_progress import OnStep as OnBuild
from dfine_cli.export.engine_format import EnginePlan, write_carried, write_engine
from dfine_cli.export.onnx import build_graph, describe, write_onnx
from dfine_cli.export.openvino import write_openvino
from dfine_cli.export.place import check_place, clear, default_place, failed_name, move, workshop
from dfine_cli.export.precision import PRECISIONS, convert
from dfine_cli.export.proof_images import ProofImages, calibration_files, choose_images
from dfine_cli.export.quantise import MOST_IMAGES, CalibrationImages
from dfine_cli.export.source import Source, open_source
from dfine_cli.export.spec import ONE_IMAGE, GraphSpec, Sampling
from dfine_cli.export.verify import OnImages, Proof, prove
from dfine_cli.model.dfine import check_input_size
from dfine_cli.types import Size

OnStep = Callable[[str], None]
"""Told in words what is done next."""


@dataclass(frozen=True)
class Plan:
    """What to export, and how.

    Attributes:
        weights: A checkpoint or a file of published weights.
        format: Key of ``FORMATS``.
        precision: Key of ``precision.PRECISIONS``.
        contract: See ``artefact.Contract``.
        input_size: (height, width) in pixels; None for that of the checkpoint.
        batch: Images in one pass.
        opset: Operator set.
        sampling: See ``spec.Sampling``.
        out: File to write; None for one in the run folder or beside the weights.
        force: Replace a file that is not an export of ours.
        data: Images of the proof; None for the validation set of the run.
        max_images: Images of the proof at most.
        max_drop: How much less AP is accepted, 0 to 1.
        engine: What only TensorRT is told.
    """

    weights: Path
    format: str = "onnx"
    precision: str = "fp32"
    contract: Contract = "published"
    input_size: Size | None = None
    batch: BatchRange = ONE_IMAGE
    opset: int = 17
    sampling: Sampling = "auto"
    out: Path | None = None
    force: bool = False
    data: SplitFiles | None = None
    max_images: int = 500
    max_drop: float = 0.001
    engine: EnginePlan = field(default_factory=EnginePlan)


class Exported(NamedTuple):
    """What came of an export."""

    file: Path
    """The artefact; its name says so if the proof failed."""
    files: list[Path]
    """All that was written, the artefact first."""
    artefact: Artefact
    proof: Proof
    nodes: int
    """Of the graph."""


class Report(NamedTuple):
    """Whom a writer tells, and what only it is told."""

    plan: EnginePlan
    place: Path
    """Where the file goes in the end; a log goes there at once."""
    tell: OnStep
    on_build: OnBuild | None


class Format(NamedTuple):
    """A kind of file."""

    suffix: str
    sampling: Mapping[str, Sampling]
    """What ``auto`` stands for, by precision; again ``auto`` where it depends on the size."""
    write: Callable[[onnx.ModelProto, Artefact, Path, Report], Artefact]
    """Writes graph and description; returns the description that was written."""
    device: str | None = "cpu"
    """Where it is run for the proof; None for the GPU that it is for."""


def _write_onnx(graph: onnx.ModelProto, artefact: Artefact, file: Path, report: Report) -> Artefact:
    write_onnx(graph, artefact, file)
    return artefact


def _write_openvino(graph: onnx.ModelProto, artefact: Artefact, file: Path, report: Report) -> Artefact:
    described = write_openvino(graph, artefact, file)
    sidecar_of(file).write_text(described.to_json(), encoding="utf-8")
    return described


def _write_tensorrt(graph: onnx.ModelProto, artefact: Artefact, file: Path, report: Report) -> Artefact:
    log_file = report.place.with_name(f"{report.place.name}.log")
    built = write_engine(graph, artefact, file, report.plan.options(log_file), report.on_build)
    for line in built.summary():
        report.tell(line)
    return built.artefact


_CPU: dict[str, Sampling] = {"fp32": "auto", "fp16": "auto", "int8": "auto"}
_GPU: dict[str, Sampling] = {"fp32": "gather", "fp16": "gather", "int8": "gather"}
"""TensorRT computes GridSample wrongly."""

FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", {**_CPU, "fp16": "gather"}, _write_onnx),  # half precision is for TensorRT
    "openvino": Format(".xml", _CPU, _write_openvino),
    "tensorrt": Format(".engine", _GPU, _write_tensorrt, device=None),
}
"""Kinds of files by name."""

BUNDLED = Format(".onnx", _GPU, _write_onnx)
"""What is proven where an engine is to be built elsewhere."""


def export(
    plan: Plan,
    on_step: OnStep | None = None,
    on_images: OnImages | None = None,
    on_build: OnBuild | None = None,
) -> Exported:
    """Export and prove; the caller decides with ``Proof.require`` what a failed proof means.

    Args:
        plan: What and how.
        on_step: Told what is done next.
        on_images: Told of the images of the proof.
        on_build: Told how far TensorRT is.

    Raises:
        UsageError: The plan does not fit the checkpoint, the data or the place.
        MissingError: A package is not installed.
        DfineError: Something cannot be read, written or converted.
    """
    tell = on_step or (lambda text: None)
    bundle = plan.engine.bundle
    made = BUNDLED if bundle else FORMATS[plan.format]
    if plan.precision not in PRECISIONS:
        raise UsageError(f"--precision {plan.precision}: unknown", f"choose one of {', '.join(PRECISIONS)}")
    plan.engine.check(plan.format, plan.out, plan.force)
    if plan.out:
        check_place(plan.out, made.suffix, force=plan.force)
    tell(f"reading {plan.weights}")
    source = open_source(plan.weights, lambda text: tell(f"warning: {text}"))
    spec = GraphSpec(
        plan.input_size or source.detector.input_size,
        plan.contract,
        plan.batch,
        plan.opset,
        made.sampling[plan.precision] if plan.sampling == "auto" else plan.sampling,
    )
    check_input_size(spec.input_size)
    place = bundle or plan.out
    if place is None:
        place = default_place(plan.weights, f"{_name(source, plan)}{made.suffix}")
        check_place(place, made.suffix, force=plan.force)
    images = choose_images(plan.data, source.recipe, plan.max_images)
    images.check(source.detector.classes)
    with workshop(place) as folder:
        draft = folder / f"model{made.suffix}"
        tell("tracing the network")
        graph, artefact = make_graph(source, spec, plan.precision, images)
        tell(f"writing {plan.format}")
        artefact = made.write(graph, artefact, draft, Report(plan.engine, place, tell, on_build))
        tell(f"comparing with the checkpoint on {images.told}")
        proof = prove(
            with_options(source.detector, OpenOptions(input_size=spec.input_size)),
            open_detector(draft, made.device or plan.engine.device),
            images,
            limits=limits_of(plan.precision, on_gpu=made.device is None),
            max_drop=plan.max_drop,
            batch=plan.batch,
            on_images=on_images,
        )
        proven = dataclasses.replace(artefact, runtime={**artefact.runtime, "proof": proof.to_json()})
        sidecar_of(draft).write_text(proven.to_json(), encoding="utf-8")
        target = place if proof.holds else failed_name(place)
        if bundle:
            files = [write_carried(draft, proven, plan.engine, images, failed=not proof.holds)]
        else:
            clear(target)
            files = move(draft, target)
    return Exported(target, files, proven, proof, len(graph.graph.node))


def make_graph(
    source: Source, spec: GraphSpec, precision: str, images: ProofImages
) -> tuple[onnx.ModelProto, Artefact]:
    """The graph in its precision, and its description.

    Args:
        source: What is exported.
        spec: What the graph is to be.
        precision: Key of ``precision.PRECISIONS``.
        images: What ``int8`` is calibrated on if the images of the training are not known.

    Raises:
        UsageError: The precision is not possible here.
    """
    single = build_graph(source.detector.model, spec)
    calibration = None
    if precision == "int8":
        files = calibration_files(images, source.recipe, MOST_IMAGES)
        calibration = CalibrationImages(files, source.detector.exif)
    converted = convert(single, precision, calibration)
    artefact = dataclasses.replace(
        describe(source, spec),
        precision=precision,
        precision_found=converted.found,
        islands=converted.islands,
    )
    return converted.model, artefact


def _name(source: Source, plan: Plan) -> str:
    """``dfine-n`` or ``dfine-n-fp16``: what a file is called unless the user says."""
    return source.detector.name if plan.precision == "fp32" else f"{source.detector.name}-{plan.precision}"
