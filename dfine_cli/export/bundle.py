"""Everything that a machine with TensorRT and a GPU needs to build an engine and check it, in one folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import dfine_cli
from dfine_cli.artefact import Artefact, sidecar_of
from dfine_cli.backends.onnx_backend import failures, first_line
from dfine_cli.errors import DfineError, UsageError
from dfine_cli.export.build_script import SAMPLE
from dfine_cli.optional import need
from dfine_cli.types import Size

SCRIPT: Final = "export/build_script.py"
CARRIED: Final = (
    "__init__.py",
    "artefact.py",
    "errors.py",
    "optional.py",
    "whole_file.py",
    "backends/__init__.py",
    "backends/cuda.py",
    "backends/engine_layers.py",
    "backends/engine_origin.py",
    "backends/tensorrt_engine.py",
    "backends/tensorrt_log.py",
    "export/__init__.py",
    "export/build_progress.py",
    "export/engine_check.py",
    "export/tensorrt.py",
    "export/timing_cache.py",
)
"""Modules of this package that the script runs on; they import nothing but tensorrt, cuda-python and numpy."""
COMMANDS: Final = "trtexec.sh"
README: Final = "README.txt"
BUILD: Final = "build.py"
PACKAGE: Final = "dfine_cli"


def write_bundle(
    onnx: Path,
    artefact: Artefact,
    folder: Path,
    images: NDArray[np.uint8] | None = None,
    sizes: Sequence[Size] | None = None,
    *,
    name: str | None = None,
) -> Path:
    """Write the folder; it is there whole or not at all.

    Args:
        onnx: The graph in the precision that is wanted.
        artefact: Its description.
        folder: New or empty.
        images: [N, 3, H, W] RGB of the sample, as ``data.preprocess.resize`` makes them; real ones show most. As many
            as ``artefact.batch.usual`` are used, again from the first if there are fewer; None for a drawn pattern.
        sizes: (height, width) of each original in pixels; None for that of the input.
        name: What the graph is called there; None for the name of ``onnx``.

    Returns:
        ``folder``.

    Raises:
        UsageError: ``folder`` has something in it.
        DfineError: It cannot be written, or ONNX Runtime cannot run the graph.
    """
    check_folder(folder)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        _fill(part, onnx, name or onnx.name, artefact, make_sample(onnx, artefact, images, sizes))
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        raise DfineError(f"{folder}: cannot be written: {error.strerror}", "choose another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def check_folder(folder: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        UsageError: It has, or it is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is there already and not empty", "choose another folder for --bundle")


def is_untouched(folder: Path) -> bool:
    """Whether a folder is a bundle as it was written, with nothing added or taken away."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    graphs = [name for name in names if name.endswith(".onnx")]
    return len(graphs) == 1 and names == {
        *graphs,
        sidecar_of(Path(graphs[0])).name,
        SAMPLE,
        BUILD,
        COMMANDS,
        README,
        PACKAGE,
    }


def _fill(folder: Path, onnx: Path, name: str, artefact: Artefact, sample: dict[str, NDArray[Any]]) -> None:
    shutil.copyfile(onnx, folder / name)
    sidecar_of(folder / name).write_text(artefact.to_json(), encoding="utf-8")
    np.savez_compressed(folder / SAMPLE, allow_pickle=False, **sample)
    package = Path(dfine_cli.__file__).parent
    for module in CARRIED:
        target = folder / PACKAGE / module
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / module, target)
    shutil.copyfile(package / SCRIPT, folder / BUILD)
    (folder / COMMANDS).write_text(trtexec_script(name, artefact), encoding="utf-8")
    (folder / README).write_text(_readme(name, artefact), encoding="utf-8")


def make_sample(
    onnx: Path,
    artefact: Artefact,
    images: NDArray[np.uint8] | None = None,
    sizes: Sequence[Size] | None = None,
) -> dict[str, NDArray[Any]]:
    """Inputs of one pass (``input.NAME``) and what ONNX Runtime gives on the CPU (``output.NAME``).

    Raises:
        DfineError: ONNX Runtime cannot run the graph.
    """
    if images is None:
        images = _pattern(artefact.input_size)[None]
    sizes = sizes or [artefact.input_size] * len(images)
    rows = [index % len(images) for index in range(artefact.batch.usual)]
    arrays: dict[str, NDArray[Any]] = {"images": (images[rows] / np.float32(255)).astype(np.float32)}
    if artefact.contract == "published":
        arrays["orig_target_sizes"] = np.array([sizes[row][::-1] for row in rows], np.int64)
    return {
        **{f"input.{name}": array for name, array in arrays.items()},
        **{f"output.{name}": array for name, array in _expected(onnx, arrays).items()},
    }


def _expected(onnx: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is in the exception
    try:
        session = runtime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_outputs()]
        return dict(zip(names, session.run(names, arrays), strict=True))
    except failures(runtime) as error:
        raise DfineError(
            f"{onnx}: ONNX Runtime cannot run it: {first_line(error)}", "export the checkpoint again"
        ) from error


def _pattern(size: Size) -> NDArray[np.uint8]:
    """A picture [3, H, W] of smooth waves; the same every time."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / (17 + 9 * c)) * np.cos(y / (23 - 4 * c)) for c in range(3)]
    return ((np.stack(waves) + 1) * 127.5).astype(np.uint8)


def trtexec_script(onnx_name: str, artefact: Artefact) -> str:
    """Commands for NVIDIA's trtexec that do what build.py does, and that measure the engine.

    Its unit of memory, ``M``, is 2**20 bytes, as that of ``BuildOptions.workspace_mb``.
    """
    engine = Path(onnx_name).with_suffix(".engine").name
    words = [
        f"--onnx={onnx_name}",
        f"--saveEngine={engine}",
        "--stronglyTyped",
        "--profilingVerbosity=detailed",
    ]
    if (workspace_mb := artefact.runtime.get("workspace_mb")) is not None:
        words.append(f"--memPoolSize=workspace:{workspace_mb}M")
    run_shapes = []
    if not artefact.batch.is_fixed:
        names = ("min", "opt", "max")
        words += [
            f"--{name}Shapes={_shapes(artefact, batch)}"
            for name, batch in zip(names, artefact.batch, strict=True)
        ]
        run_shapes = [f"--shapes={_shapes(artefact, artefact.batch.usual)}"]
    measure = [
        f"--loadEngine={engine}", *run_shapes, "--warmUp=2000", "--iterations=1000", "--noDataTransfers",
        "--useSpinWait", "--useCudaGraph",
    ]  # fmt: skip
    return "\n".join(
        (
            "#!/bin/sh",
            "# What build.py does, without its check. TensorRT 11 is always strongly typed and ignores --stronglyTyped.",
            _command(words),
            "",
            "# Its latency with the data on the GPU, post-processing included.",
            _command(measure),
            "",
        )
    )


def _command(words: Sequence[str]) -> str:
    return " \\\n  ".join(("trtexec", *words))


def _shapes(artefact: Artefact, batch: int) -> str:
    height, width = artefact.input_size
    shapes = [f"images:{batch}x3x{height}x{width}"]
    if artefact.contract == "published":
        shapes.append(f"orig_target_sizes:{batch}x2")
    return ",".join(shapes)


def _readme(onnx_name: str, artefact: Artefact) -> str:
    engine = Path(onnx_name).with_suffix(".engine").name
    return f"""\
{artefact.name}: TensorRT engine, to be built on the machine that will run it
(an engine runs only on the kind of GPU and with the version of TensorRT that built it).

  pip install tensorrt numpy cuda-python
  python build.py

writes {engine}, {engine}.json (what it is, and what it was built on) and {engine}.log, and checks
the engine with {SAMPLE} against what ONNX Runtime said. Without cuda-python it builds and does not check.
TensorRT 10.0 or newer; `python build.py --help` shows the options.

{onnx_name}       the graph: {artefact.precision}, contract `{artefact.contract}`
{onnx_name}.json  classes, preprocessing, sizes, versions
{COMMANDS}        the same with NVIDIA's trtexec, and a latency
dfine_cli/        the modules that build.py runs on

The engine with its JSON file can be used where `dfine` takes a checkpoint: eval, bench, visualize.
"""
