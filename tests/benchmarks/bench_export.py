"""Latency of the forms in which a detector can be run on a CPU, all in one run, and the nodes of each graph.

    python tests/benchmarks/bench_export.py [n s m] [--threads 2] [--runs 30] [--input-size 640]

Weights are random: latency does not depend on them. The candidates take turns of several passes, so that what
disturbs the machine disturbs all of them, and none is slowed by the threads of the one before. Beside the median on
the clock stands the least processor time of a pass, which other programs change little; the load of the machine is
printed too, since the clock says nothing on a busy one. ``traced`` is the trained network as torch traces it, fused and
with post-processing; the others are what ``dfine export`` writes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from PIL import Image

from dfine_cli.export.onnx import build_graph
from dfine_cli.export.precision import convert
from dfine_cli.export.proof_images import drawn_pictures
from dfine_cli.export.quantise import CalibrationImages
from dfine_cli.export.spec import GraphSpec
from dfine_cli.model.dfine import DFINE, build_model
from dfine_cli.model.postprocess import postprocess

Pass = Callable[[], object]
TURNS, WARMUP = 3, 3


class Plain(torch.nn.Module):
    """The trained network with post-processing."""

    def __init__(self, model: DFINE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return postprocess(self.model(images).final, sizes, 300)


def traced(model: DFINE, images: torch.Tensor, sizes: torch.Tensor, file: Path) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Plain(model.fused()).eval(),
            (images, sizes),
            file,
            input_names=["images", "orig_target_sizes"],
            opset_version=17,
            dynamo=False,
        )
    return onnx.load(file)


def in_torch(model: DFINE, images: torch.Tensor, sizes: torch.Tensor) -> Pass:
    plain = Plain(model).eval()

    def run() -> object:
        with torch.inference_mode():
            return plain(images, sizes)

    return run


def in_onnxruntime(graph: onnx.ModelProto, inputs: dict[str, np.ndarray], threads: int) -> Pass:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)


def in_openvino(file: Path, inputs: dict[str, np.ndarray], threads: int, precision: str | None) -> Pass:
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()
    return lambda: request.infer(inputs)


def candidates(size: str, side: int, threads: int, folder: Path) -> tuple[dict[str, Pass], dict[str, int]]:
    torch.manual_seed(0)
    model = build_model(size, 80, input_size=(side, side)).eval()
    images, sizes = torch.rand(1, 3, side, side), torch.tensor([[640, 480]])
    inputs = {"images": images.numpy(), "orig_target_sizes": sizes.numpy()}
    files = []
    for number, picture in enumerate(drawn_pictures()):
        files.append(folder / f"{number}.png")
        Image.fromarray(picture).save(files[-1])
    graphs = {"traced": traced(model, images, sizes, folder / "traced.onnx")}
    for sampling in ("grid", "gather"):
        graphs[sampling] = build_graph(model, GraphSpec((side, side), sampling=sampling))
        onnx.save(graphs[sampling], folder / f"{sampling}.onnx")
    graphs["int8"] = convert(graphs["grid"], "int8", CalibrationImages(files)).model
    passes = {
        "torch eager": in_torch(model, images, sizes),
        "torch fused": in_torch(model.fused(), images, sizes),
        **{f"onnxruntime {name}": in_onnxruntime(graph, inputs, threads) for name, graph in graphs.items()},
    }
    for name in ("traced", "grid", "gather"):
        passes[f"openvino f32 {name}"] = in_openvino(folder / f"{name}.onnx", inputs, threads, "f32")
    passes["openvino default grid"] = in_openvino(folder / "grid.onnx", inputs, threads, None)
    return passes, {name: len(graph.graph.node) for name, graph in graphs.items()}


def measure(passes: dict[str, Pass], runs: int) -> dict[str, tuple[float, float]]:
    """Median ms on the clock and least ms of processor time of each pass, in ``TURNS`` turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    for _ in range(TURNS):
        for name, run in passes.items():
            time.sleep(0.5)  # until the threads of the runtime before have stopped to wait awake
            for number in range(WARMUP + runs // TURNS):
                clock, used = time.perf_counter(), time.process_time()
                run()
                if number >= WARMUP:
                    times[name].append(
                        (1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - used))
                    )
    return {
        name: (statistics.median(t[0] for t in taken), min(t[1] for t in taken))
        for name, taken in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", default=["n", "s", "m"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--input-size", type=int, default=640)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            passes, nodes = candidates(size, options.input_size, options.threads, Path(folder))
            print(
                f"D-FINE-{size.upper()}, {options.threads} threads, load {os.getloadavg()[0]:.1f}; nodes {nodes}"
            )
            for name, (clock, used) in measure(passes, options.runs).items():
                print(f"  {name:24} {clock:8.1f} ms  {used:8.1f} ms of processor time", flush=True)


if __name__ == "__main__":
    main()
