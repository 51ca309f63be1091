"""What an engine is tied to, and why a file is refused: another GPU, another TensorRT, or damage.

An engine runs on the kind of GPU and with the version of TensorRT that built it. The description beside it says
both (``runtime`` of ``Artefact``); without one, TensorRT's own words on refusing it do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfine_cli.artefact import Artefact
from dfine_cli.backends.cuda import GpuFacts
from dfine_cli.backends.tensorrt_log import Log
from dfine_cli.errors import CheckError, DfineError

REBUILD = "build it on this machine: `dfine export CHECKPOINT --format tensorrt`, or build.py of its bundle"
_AGAIN = "copy it again, or build it again"


def describe_origin(tensorrt: str, gpu: GpuFacts | None, size: int) -> dict[str, Any]:
    """The entries of ``Artefact.runtime`` that tie an engine of ``size`` bytes to where it was built."""
    place = {} if gpu is None else {key: value for key, value in _named(gpu).items() if value}
    return {"tensorrt": tensorrt, **place, "bytes": size}


def _named(gpu: GpuFacts) -> dict[str, str]:
    return {
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "driver": gpu.driver,
        "cuda_driver": gpu.cuda_driver,
        "cuda_runtime": gpu.cuda_runtime,
    }


def refuse_foreign(file: Path, size: int, artefact: Artefact | None, tensorrt: str, gpu: GpuFacts) -> None:
    """Compare a file with its description, before TensorRT reads a byte of it.

    Args:
        file: The engine.
        size: Its bytes.
        artefact: Its description; without one nothing is known.
        tensorrt: Version of TensorRT here.
        gpu: The GPU here.

    Raises:
        DfineError: It is cut off, or was built elsewhere.
    """
    known = artefact.runtime if artefact else {}
    if size == 0:
        raise CheckError(f"{file}: empty", _AGAIN)
    if size != known.get("bytes", size):
        raise CheckError(
            f"{file}: cut off or changed: {size:,} bytes, its description says {known['bytes']:,}", _AGAIN
        )
    if known.get("tensorrt", tensorrt) != tensorrt:
        raise CheckError(
            f"{file}: built by TensorRT {known['tensorrt']}, this is TensorRT {tensorrt}",
            f"{REBUILD}; or pip install tensorrt=={known['tensorrt']}",
        )
    if _model(known.get("gpu", gpu.name)) != _model(gpu.name):
        raise CheckError(
            f"{file}: built on {known['gpu']} (compute capability {known.get('compute_capability', '?')}), "
            f"this is {gpu.name} ({gpu.compute_capability})",
            REBUILD,
        )


def explain_refusal(file: Path, log: Log, tensorrt: str, gpu: GpuFacts) -> DfineError:
    """The error for a file that TensorRT does not open, from what it said.

    Args:
        file: The engine.
        log: TensorRT's words.
        tensorrt: Version of TensorRT here.
        gpu: The GPU here.
    """
    if found := log.find(r"expecting compute ([\d.]+) got compute ([\d.]+)"):
        return CheckError(
            f"{file}: built on a GPU of compute capability {found[2].rstrip('.')}, this is {gpu.name} "
            f"({gpu.compute_capability})",
            REBUILD,
        )
    if found := log.find(r"expecting library version ([\d.]+) got ([\d.]+)"):
        return CheckError(
            f"{file}: built by TensorRT {found[2].rstrip('.')}, this is TensorRT {tensorrt}", REBUILD
        )
    if log.find(r"[Vv]ersion tag does not match"):
        return CheckError(f"{file}: built by another version of TensorRT, this is {tensorrt}", REBUILD)
    if log.find(r"[Mm]agic tag does not match"):
        return CheckError(
            f"{file}: no engine of TensorRT", "give an engine, or the ONNX file it was built from"
        )
    if log.find(r"out of memory|[Oo]ut[Oo]f[Mm]emory|could not be allocated"):
        return DfineError(
            f"{file}: {gpu.name} has no memory left for it", "see who uses the GPU: `nvidia-smi`"
        )
    reason = log.last_error() or "it does not say why"
    return CheckError(f"{file}: damaged or cut off: TensorRT {tensorrt} cannot open it: {reason}", _AGAIN)


def _model(gpu: str) -> str:
    """The name of a GPU without the maker's, which drivers of some years leave out."""
    return gpu.removeprefix("NVIDIA ")
