"""What fp16 and int8 do to the AP and the latency of an exported detector on this CPU.

    PYTHONPATH=. python tests/benchmarks/bench_precision.py MODEL.onnx ANNOTATIONS.json IMAGES CALIBRATION [--rounds 20]

MODEL.onnx is a file of `dfine export` in single precision, or another one with the published contract; CALIBRATION
is a folder of images for int8. `rounded` is fp16 with every tensor rounded, as hardware with half precision has it:
ONNX Runtime computes most of it in single precision on a CPU. Runs of the precisions take turns.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before a runtime is loaded

import numpy as np
import onnx
import onnxruntime
import openvino

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import load_coco
from dfine_cli.data.images import read_image
from dfine_cli.data.preprocess import Preprocessing
from dfine_cli.evaluation.coco_eval import evaluate
from dfine_cli.evaluation.predict import to_results
from dfine_cli.export.precision import convert
from dfine_cli.export.quantise import MOST_IMAGES, CalibrationImages
from dfine_cli.types import Detections
from tests.rounding import rounded


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    single = onnx.load(options.model)
    files = sorted(options.calibration.rglob("*.jp*g"))
    step = max(1, len(files) // MOST_IMAGES)
    models = {"fp32": single}
    for precision in ("fp16", "int8"):
        converted = convert(single, precision, CalibrationImages(files[::step][:MOST_IMAGES]))
        models[precision] = converted.model
        print(precision, len(converted.model.graph.node), "nodes", converted.found)
    inputs = read_inputs(options, single)
    runs = {name: onnx_runtime(model, options.threads) for name, model in models.items()}
    for name, run in {**runs, "rounded": onnx_runtime(rounded(models["fp16"]), options.threads)}.items():
        found = evaluate(options.annotations, detect(run, inputs, options.annotations)).numbers
        print(f"{name:8}", "  ".join(f"{key} {100 * found[key]:.2f}" for key in ("AP", "AP50", "AP75")))
    runs |= {f"{name}, OpenVINO": open_vino(model, options.threads) for name, model in models.items()}
    times = {name: [] for name in runs}
    for _ in range(options.rounds + 3):
        for name, run in runs.items():
            start = time.perf_counter()
            run(*inputs[0][1:])
            times[name].append(1e3 * (time.perf_counter() - start))
    for name, taken in times.items():
        print(f"{name:16} median {statistics.median(taken[3:]):7.1f} ms, least {min(taken[3:]):7.1f} ms")


def read_inputs(options, model):
    """Id, input [1, 3, H, W] and original size [[width, height]] of every image."""
    height, width = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[2:])
    prepare = Preprocessing((height, width))
    read = []
    for row in load_coco(options.annotations).images:
        pixels = read_image(options.images / row.file_name)
        read.append((row.id, prepare(pixels)[None], np.array([[pixels.shape[1], pixels.shape[0]]])))
    return read


def onnx_runtime(model, threads):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    return lambda image, size: session.run(None, {"images": image, "orig_target_sizes": size})


def open_vino(model, threads):
    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    read.reshape({"images": [1, *model_side(model)], "orig_target_sizes": [1, 2]})
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(read, "CPU", settings).create_infer_request()
    return lambda image, size: request.infer({"images": image, "orig_target_sizes": size})


def model_side(model):
    return [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[1:]]


def detect(run, inputs, annotations):
    categories = load_coco(annotations).categories
    coco = max(category["id"] for category in categories) > len(
        categories
    )  # of its 80, those in the file are scored
    ids = ClassMap.build(categories, "coco80" if coco else "auto").category_ids
    known = {category["id"] for category in categories}
    results = []
    for image_id, image, size in inputs:
        labels, boxes, scores = run(image, size)
        results += to_results(image_id, Detections(boxes[0], scores[0], labels[0]), ids)
    return [result for result in results if result["category_id"] in known]


if __name__ == "__main__":
    main()
