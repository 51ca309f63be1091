"""Build the engine of this folder on this machine, and check it with the sample.

Needs tensorrt and numpy. With cuda-python it also checks the engine and records the GPU.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from dfine_cli.artefact import Artefact, read_sidecar
from dfine_cli.backends.cuda import is_installed
from dfine_cli.backends.tensorrt_engine import open_plan
from dfine_cli.errors import DfineError, MissingError
from dfine_cli.export.engine_check import compare, require
from dfine_cli.export.tensorrt import BuildOptions, build_engine

FOLDER = Path(__file__).resolve().parent
SAMPLE = "sample.npz"
"""Inputs and what ONNX Runtime made of them: ``input.NAME`` and ``output.NAME``."""


def main(words: list[str] | None = None) -> int:
    """Run the script; gives its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the engine to write (default: beside the ONNX file)")
    parser.add_argument("--device", default="auto", help="cuda, cuda:1, ... (default: the first GPU)")
    parser.add_argument(
        "--workspace",
        type=int,
        metavar="MB",
        help="most memory a layer may use for itself (default: as exported)",
    )
    parser.add_argument("--no-check", action="store_true", help="build only")
    given = parser.parse_args(words)
    try:
        return _run(given)
    except DfineError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return int(error.exit_code)


def _run(given: argparse.Namespace) -> int:
    onnx, artefact = _graph()
    out = given.out or onnx.with_suffix(".engine")
    workspace = artefact.runtime.get("workspace_mb") if given.workspace is None else given.workspace
    options = BuildOptions(given.device, workspace, FOLDER / "timing", without_facts=True)
    built = build_engine(onnx, artefact, out, options, _show)
    print("", file=sys.stderr)
    print("\n".join([f"engine: {out}", *built.summary()]))
    if given.no_check:
        return 0
    if not is_installed():
        raise MissingError(
            "the engine is built but NOT CHECKED: cuda-python is not installed", "pip install cuda-python"
        )
    check(out, given.device, artefact.precision)
    return 0


def check(engine_file: Path, device: str, precision: str) -> None:
    """Run the engine on the sample and compare.

    Raises:
        CheckError: It says something else than ONNX Runtime.
        DfineError: It does not run.
    """
    with np.load(FOLDER / SAMPLE) as sample:
        parts = {
            kind: {name.partition(".")[2]: sample[name] for name in sample if name.startswith(f"{kind}.")}
            for kind in ("input", "output")
        }
    engine = open_plan(engine_file, device)
    engine.load(parts["input"])
    engine.run()
    agreement = compare(parts["output"], engine.read())
    engine.close()
    require(agreement, precision)
    print(
        f"checked: {agreement.compared} detections as in ONNX Runtime, scores within {agreement.score:.4f}, "
        f"edges within {agreement.box:.2f} pixels"
    )


def _graph() -> tuple[Path, Artefact]:
    for onnx in sorted(FOLDER.glob("*.onnx")):
        artefact = read_sidecar(onnx)
        if artefact is not None:
            return onnx, artefact
    raise DfineError(f"{FOLDER}: no ONNX file with its description", "carry the whole folder")


def _show(phase: str, share: float) -> None:
    print(f"\r\x1b[2K{phase}: {share:.0%}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
