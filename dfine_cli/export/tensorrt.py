"""ONNX file to TensorRT engine: one strongly typed path for TensorRT 10 and 11.

The precision is that of the tensors in the graph; the builder is given no precision of its own. The file beside the
engine (``artefact.sidecar_of``) says what it was built on and which types its layers compute in.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from dfine_cli.artefact import Artefact, sidecar_of
from dfine_cli.backends.cuda import Cuda, GpuFacts, is_installed
from dfine_cli.backends.engine_layers import count_layer_types, describe_layer_types
from dfine_cli.backends.engine_origin import describe_origin
from dfine_cli.backends.tensorrt_log import Line, Log, import_tensorrt, listen, start
from dfine_cli.errors import CheckError, DfineError, MissingError, UsageError
from dfine_cli.export.build_progress import OnStep, watch_build
from dfine_cli.export.timing_cache import TimingCache
from dfine_cli.whole_file import whole_files

CARRY: Final = "or --bundle DIR, which writes all that a machine with TensorRT and a GPU needs to build it"
GRID_SAMPLE: Final = (
    "TensorRT 10.13, 10.14 and 11.1 were seen to compute it wrongly, at a cost of 10 AP; compare the AP of the engine, "
    "or export with Gather in its place (--sampling gather)"
)
"""What is known of an operator that builds without complaint."""
NEEDED_TYPE: Final = {"fp16": "fp16", "int8": "int8"}
"""Precision that was asked for, and the type that some layer must then be of."""


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        device: ``auto``, ``cuda`` or ``cuda:1``: the GPU it is for.
        workspace_mb: The most memory that a layer may use for itself while it runs; None for all of the GPU.
        cache_folder: Where measured times of layers are kept, so that the next build is quicker; None for nowhere.
        log_file: Where the log goes; None for beside the engine.
        without_facts: Build where cuda-python is missing, too; the description then does not name the GPU.
    """

    device: str = "auto"
    workspace_mb: int | None = None
    cache_folder: Path | None = None
    log_file: Path | None = None
    without_facts: bool = False


class BuiltEngine(NamedTuple):
    """What a build gave."""

    file: Path
    artefact: Artefact
    """The description of the ONNX file, with ``runtime`` saying what is true of this engine only."""
    log: Log
    log_file: Path
    seconds: float

    def summary(self) -> list[str]:
        """What a user wants to know, line by line: time, size, types, warnings, where the rest is."""
        known = self.artefact.runtime
        types = describe_layer_types(known["layer_types"]) or "types not told"
        lines = [
            f"TensorRT {known['tensorrt']} on {known.get('gpu', 'a GPU that is not known')}, "
            f"{self.seconds:.0f} s, {known['bytes'] / 2**20:.1f} MB",
            f"layers: {sum(known['layer_types'].values())} ({types})",
        ]
        if warnings := self.log.warnings:
            lines.append(f"{len(warnings)} warnings, the first: {' '.join(warnings[0].split())[:160]}")
        return [*lines, f"log: {self.log_file}"]


def build_engine(
    onnx: Path,
    artefact: Artefact,
    out: Path,
    options: BuildOptions | None = None,
    on_step: OnStep | None = None,
) -> BuiltEngine:
    """Build the engine of an ONNX file for a GPU of this machine, with its description and its log beside it.

    Args:
        onnx: The graph, in the precision that is wanted.
        artefact: Its description; ``batch`` gives the optimisation profile.
        out: The engine to write; it is there whole or not at all.
        options: How; None for the defaults.
        on_step: Told of progress.

    Raises:
        MissingError: TensorRT, cuda-python, the driver or the GPU is not there; the hint names ``--bundle``.
        UsageError: ``options`` make no sense on this GPU.
        CheckError: The engine is not of the precision that was asked for; it is not kept.
        DfineError: The graph cannot be parsed, or no engine be built; the log says more.
        Interrupted: The user pressed Ctrl-C.
    """
    options = options or BuildOptions()
    trt, gpu = require_machine(options)
    log, log_file = Log(), options.log_file or out.with_name(f"{out.name}.log")
    _open_place(out, log, log_file)
    started = time.monotonic()
    try:
        plan = _build(trt, onnx, artefact, log, options, gpu, on_step)
        seconds = time.monotonic() - started
        types = _inspect(trt, plan, artefact, log)
    except DfineError as error:
        error.hint = f"{error.hint}; log: {log_file}"
        raise
    finally:
        log.write(log_file)
    runtime = {
        **describe_origin(trt.__version__, gpu, len(plan)),
        "workspace_mb": options.workspace_mb,
        "build_seconds": round(seconds, 1),
        "layer_types": types,
    }
    described = dataclasses.replace(artefact, runtime={**artefact.runtime, **runtime})
    _write(out, plan, described)
    return BuiltEngine(out, described, log, log_file, seconds)


def require_machine(options: BuildOptions) -> tuple[ModuleType, GpuFacts | None]:
    """The module ``tensorrt``, and the GPU as far as it is known.

    Raises:
        MissingError: TensorRT, cuda-python, the driver or the GPU is not there; the hint names ``--bundle``.
        UsageError: ``options`` make no sense on this GPU.
    """
    try:
        trt, gpu = import_tensorrt(), _facts(options)
    except MissingError as error:
        raise MissingError(error.message, f"{error.hint}; {CARRY}") from error
    check_workspace(options.workspace_mb, gpu)
    return trt, gpu


def _open_place(out: Path, log: Log, log_file: Path) -> None:
    """See that the engine can be written before minutes are spent on it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        log.write(log_file)
    except OSError as error:
        raise DfineError(
            f"{out}: cannot be written: {error.strerror}", "choose another place with --out"
        ) from error


def _facts(options: BuildOptions) -> GpuFacts | None:
    """What is known of the GPU, which becomes the current one of this thread."""
    if options.without_facts and not is_installed():
        if options.device not in ("auto", "cuda", "cuda:0"):
            raise MissingError(
                f"--device {options.device} needs cuda-python, which is not installed",
                "pip install cuda-python, or say it by CUDA_VISIBLE_DEVICES",
            )
        return None
    cuda = Cuda(options.device)
    cuda.close()
    return cuda.facts


def check_workspace(workspace_mb: int | None, gpu: GpuFacts | None) -> None:
    """Refuse what no layer can have.

    Args:
        workspace_mb: What a layer may use for itself; None for all.
        gpu: Whose memory it is; None where that is not known.

    Raises:
        UsageError: It is less than 1 MB, or more than the GPU has.
    """
    most = gpu.memory_mb if gpu else float("inf")
    if workspace_mb is not None and not 1 <= workspace_mb <= most:
        limits = f"1 to {most:.0f} MB, the memory of {gpu.name}" if gpu else "at least 1 MB"
        raise UsageError(
            f"workspace of {workspace_mb} MB: must be {limits}",
            "leave it out: TensorRT then takes what it needs",
        )


def _build(
    trt: ModuleType,
    onnx: Path,
    artefact: Artefact,
    log: Log,
    options: BuildOptions,
    gpu: GpuFacts | None,
    on_step: OnStep | None,
) -> bytes:
    """The serialized engine."""
    logger = listen(trt, log)
    builder = start(trt.Builder, logger, log)
    network = builder.create_network(1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED.value)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        raise _refused(onnx, parser, trt.__version__, log)
    _warn_of_grid_sample(trt, network, log)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector tells no types
    if options.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb * 2**20)
    _add_profile(builder, config, network, artefact, onnx)
    cache = (
        TimingCache.of(options.cache_folder, trt.__version__, gpu) if options.cache_folder and gpu else None
    )
    if cache is not None:
        cache.load(config)
    with watch_build(trt, on_step) as monitor:
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failed(onnx, log)
    if cache is not None:
        cache.save(config)
    return bytes(plan)


def _warn_of_grid_sample(trt: ModuleType, network: Any, log: Log) -> None:
    layers = (network.get_layer(index) for index in range(network.num_layers))
    if count := sum(layer.type == trt.LayerType.GRID_SAMPLE for layer in layers):
        log.lines.insert(0, Line("WARNING", f"{count} layers of the graph are GridSample: {GRID_SAMPLE}"))


def _add_profile(builder: Any, config: Any, network: Any, artefact: Artefact, onnx: Path) -> None:
    """Shapes of the inputs from the batch of the description; none where the graph fixes them all."""
    profile, open_inputs = builder.create_optimization_profile(), 0
    for index in range(network.num_inputs):
        port = network.get_input(index)
        shape = tuple(port.shape)
        if any(side < 0 for side in shape[1:]):
            raise DfineError(
                f"{onnx}: {port.name} is {shape}: only the first dimension, the batch, may be open",
                "export it with a fixed input size",
            )
        if shape[0] >= 0:
            _check_fixed_batch(onnx, shape[0], artefact)
            continue
        open_inputs += 1
        profile.set_shape(port.name, *((batch, *shape[1:]) for batch in artefact.batch))
    if open_inputs and config.add_optimization_profile(profile) < 0:
        raise DfineError(
            f"{onnx}: TensorRT refuses a profile of {artefact.batch.least}, {artefact.batch.usual} and "
            f"{artefact.batch.most} images",
            "export it with another --batch",
        )


def _check_fixed_batch(onnx: Path, batch: int, artefact: Artefact) -> None:
    if artefact.batch != (batch, batch, batch):
        raise DfineError(
            f"{onnx}: the graph takes {batch} images, its description says {artefact.batch.least} to "
            f"{artefact.batch.most}",
            "export the checkpoint again",
        )


def _refused(onnx: Path, parser: Any, version: str, log: Log) -> DfineError:
    """What the parser said: the node, its operator and the reason."""
    if not parser.num_errors:
        return DfineError(
            f"{onnx}: TensorRT {version} cannot parse it: {log.last_error() or 'it does not say why'}",
            "see that the file is whole: `dfine export` checks what it writes",
        )
    error = parser.get_error(0)
    more = f" (and {parser.num_errors - 1} more)" if parser.num_errors > 1 else ""
    operator = error.node_operator() or "the graph"
    where = f"node {error.node()} {error.node_name()!r} ({operator})" if error.node() >= 0 else operator
    return DfineError(
        f"{onnx}: TensorRT {version} cannot parse {where}: {' '.join(error.desc().split())}{more}",
        f"export with another --opset (17 to 19), or use a TensorRT that knows {operator}",
    )


_FAILURES = (
    (
        r"[Oo]ut ?[Oo]f ?[Mm]emory|could not be allocated",
        "the GPU has no memory left",
        "free memory of the GPU (see `nvidia-smi`), or export with a smaller --batch",
    ),
    (
        r"insufficient workspace|workspace size is insufficient",
        "a layer needs more workspace than allowed",
        "allow more with --workspace, or leave it out",
    ),
)
"""How a failed build is known in the log, what to call it, and what to do."""


def _failed(onnx: Path, log: Log) -> DfineError:
    reason = log.last_error() or "it does not say why"
    for pattern, what, hint in _FAILURES:
        if found := log.find(pattern):
            return DfineError(f"{onnx}: no engine: {what}: {' '.join(found.string.split())[:300]}", hint)
    return DfineError(
        f"{onnx}: TensorRT built no engine: {reason}", "try another --opset, or a newer TensorRT"
    )


def _inspect(trt: ModuleType, plan: bytes, artefact: Artefact, log: Log) -> dict[str, int]:
    """Layers of the finished engine by type; it is opened once to see that it can be and what it is.

    Raises:
        CheckError: It is not of the precision that was asked for.
        DfineError: It cannot be opened again.
    """
    engine = start(trt.Runtime, listen(trt, log), log).deserialize_cuda_engine(plan)
    if engine is None:
        raise DfineError(
            f"{artefact.name}: TensorRT cannot open the engine it built: {log.last_error()}",
            "free memory of the GPU (see `nvidia-smi`)",
        )
    types = count_layer_types(engine, trt)
    needed = NEEDED_TYPE.get(artefact.precision)
    if needed and types and needed not in types:
        raise CheckError(
            f"{artefact.name}: {artefact.precision} was asked for, but no layer of the engine is: "
            f"{describe_layer_types(types)}",
            "the types come from the ONNX file: export it with this --precision",
        )
    return types


def _write(out: Path, plan: bytes, described: Artefact) -> None:
    """The engine and its description, each whole or not at all."""
    files = {out: plan, sidecar_of(out): described.to_json().encode()}
    try:
        with whole_files(*files) as parts:
            for part, content in zip(parts, files.values(), strict=True):
                part.write_bytes(content)
    except OSError as error:
        raise DfineError(
            f"{out}: cannot be written: {error.strerror}", "choose another place with --out"
        ) from error
