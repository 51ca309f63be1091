"""``dfine export``: a checkpoint as ONNX, OpenVINO or TensorRT, proven on real images."""

import shlex
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfine_cli.cli.console import StatusLine, print_json, print_next, print_out, print_table, say
from dfine_cli.cli.data import Split, find_data
from dfine_cli.cli.downloads import local_weights
from dfine_cli.cli.options import ForceOption, InputSizeOption, JsonOption, parse_input_size

if TYPE_CHECKING:
    from dfine_cli.export.run import Exported


class Format(str, Enum):
    """Kind of file."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"


class Precision(str, Enum):
    """What the graph computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class ContractName(str, Enum):
    """Inputs and outputs."""

    PUBLISHED = "published"
    END2END = "end2end"


class SamplingName(str, Enum):
    """How the attention reads the maps."""

    AUTO = "auto"
    GRID = "grid"
    GATHER = "gather"


def command(
    model: Annotated[
        Path,
        typer.Argument(help="A checkpoint, a run folder (its best weights), or a name of `dfine zoo list`."),
    ],
    format: Annotated[Format, typer.Option("--format", help="Kind of file.")] = Format.ONNX,
    precision: Annotated[
        Precision, typer.Option(help="Types in the file; int8 is calibrated on images.")
    ] = Precision.FP32,
    contract: Annotated[
        ContractName,
        typer.Option(
            help="published: also takes the sizes of the originals; end2end: boxes in input pixels."
        ),
    ] = ContractName.PUBLISHED,
    input_size: InputSizeOption = None,
    batch: Annotated[
        str, typer.Option(metavar="N|MIN,OPT,MAX", help="Images in one pass: 1, or 1,4,16 for any up to 16.")
    ] = "1",
    opset: Annotated[int, typer.Option(min=16, max=19, help="ONNX operator set.")] = 17,
    sampling: Annotated[
        SamplingName,
        typer.Option(help="How the attention reads the maps: GridSample, or Gather and arithmetic."),
    ] = SamplingName.AUTO,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Images of the proof: a dataset folder, a COCO JSON file, a config or a run folder. "
            "Default: the validation set of the run.",
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which part of DATA.")] = Split.VAL,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if DATA is a JSON file.")] = None,
    max_images: Annotated[int, typer.Option(min=1, help="Images of the proof at most.")] = 500,
    max_ap_drop: Annotated[
        float,
        typer.Option(min=0.0, max=100.0, help="AP (0 to 100) that may be lost before the export fails."),
    ] = 0.1,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File to write. Default: in the run's folder export/, or beside the weights."
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --format tensorrt: write all that a machine with a GPU needs to build and check "
            "the engine, and build none here.",
        ),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            metavar="MB", help="With --format tensorrt: most memory that a layer may use for itself."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="With --format tensorrt: the GPU the engine is for: auto, cuda, cuda:1.")
    ] = "auto",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a checkpoint, and prove on images that the file says what the checkpoint says.

    A file that loses more than --max-ap-drop is kept as NAME.failed.SUFFIX, and the command exits with code 4.
    """
    from dfine_cli.backends.detector import find_weights
    from dfine_cli.export.engine_format import EnginePlan
    from dfine_cli.export.run import Plan, export
    from dfine_cli.export.spec import parse_batch

    size = parse_input_size(input_size)
    batches = parse_batch(batch)
    weights = find_weights(local_weights(str(model)))
    plan = Plan(
        weights,
        format.value,
        precision.value,
        contract.value,
        (size[0], size[1]) if size else None,
        batches,
        opset,
        sampling.value,
        out,
        force,
        find_data(data, split, images) if data else None,
        max_images,
        max_ap_drop / 100,
        EnginePlan(device, workspace, bundle),
    )
    status = StatusLine()
    try:
        exported = export(
            plan,
            say,
            lambda who, done, total: status.update(f"{who}: {done}/{total} images"),
            lambda phase, share: status.update(f"{phase}: {share:.0%}"),
        )
    finally:
        status.close()
    if not as_json:
        _print(exported)  # also what failed, to see by how much
    exported.proof.require(exported.file)
    if as_json:
        print_json(_to_json(exported))
    print_next(_next(exported.file, bundle))


def _next(file: Path, bundle: Path | None) -> str:
    words = ["dfine", "eval", str(file), "DATA"]
    return (
        f"carry {bundle} to the machine with the GPU; there: python build.py" if bundle else shlex.join(words)
    )


def _to_json(exported: "Exported") -> dict[str, Any]:
    artefact = exported.artefact
    return {
        "file": str(exported.file),
        "files": [str(file) for file in exported.files],
        "nodes": exported.nodes,
        "precision": artefact.precision,
        "precision_found": artefact.precision_found,
        "islands": artefact.islands,
        "input_size": list(artefact.input_size),
        "batch": list(artefact.batch),
        "contract": artefact.contract,
        "proof": exported.proof.to_json(),
    }


def _print(exported: "Exported") -> None:
    artefact, proof = exported.artefact, exported.proof
    height, width = artefact.input_size
    least, usual, most = artefact.batch
    for kind, shares in artefact.precision_found.items():
        if kind in ("nodes", "weights"):
            text = ", ".join(f"{100 * share:.1f}% {name}" for name, share in shares.items())
            say(f"{kind}: {text}")
    for name, reason in artefact.islands.items():
        say(f"in single precision: {name}: {reason}")
    print_out(
        f"{exported.file}: {width}x{height}, batch {usual if least == most else f'{least} to {most}'}, "
        f"{exported.nodes} nodes"
    )
    print_out(f"proof on {proof.images} images: {proof.told}")
    found = proof.agreement
    rows = [
        ("largest box difference", f"{found.box_px:.4f} px"),
        ("largest score difference", f"{found.score:.6f}"),
        ("detections found again", f"{found.compared - found.missed} of {found.compared}"),
    ]
    rows += [
        (f"in passes of {count} images", f"{same.compared - same.missed} of {same.compared} as one by one")
        for count, same in proof.batches.items()
    ]
    if proof.ap is not None and proof.ap_artefact is not None and proof.drop is not None:
        rows += [
            ("AP of the checkpoint", f"{100 * proof.ap:.2f}"),
            ("AP of the file", f"{100 * proof.ap_artefact:.2f}"),
            ("difference", _signed(-100 * proof.drop)),
        ]
    else:
        rows.append(("AP", "not known without annotations"))
    print_table(rows)
    if proof.ap is not None and proof.says_little:
        say(
            f"warning: the checkpoint itself has AP {100 * proof.ap:.2f} on these images, so that a difference of AP "
            "says little: give images of the kind it was trained on with --data, at the size it was trained at"
        )


def _signed(points: float) -> str:
    """A difference of AP with its sign; without one where it rounds to nothing."""
    return f"{round(points, 2):+.2f}" if round(points, 2) else "0.00"
