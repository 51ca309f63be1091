"""Milliseconds of a forward pass in torch: as trained, fused, and fused with channels last.

    python tests/benchmarks/bench_inference.py [--sizes n s] [--side 640] [--batch 1]

The forms take turns, so that a busy moment hits all of them; compare ratios of one run.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before torch is loaded

import torch

from dfine_cli.model.dfine import build_model
from dfine_cli.training.memory import keep_freed_blocks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["n", "s"])
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_blocks()
    images = torch.rand(options.batch, 3, options.side, options.side)
    by_channel = images.contiguous(memory_format=torch.channels_last)
    for size in options.sizes:
        torch.manual_seed(0)
        model = build_model(size, 80, input_size=(options.side, options.side)).eval()
        fused = model.fused()
        last = model.fused().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        forms = {
            "as trained": (model, images),
            "fused": (fused, images),
            "fused, channels last": (last, by_channel),
        }
        times: dict[str, list[float]] = {name: [] for name in forms}
        with torch.inference_mode():
            for run in range(options.runs + 3):
                for name, (form, batch) in forms.items():
                    started = time.perf_counter()
                    form(batch)
                    if run >= 3:
                        times[name].append((time.perf_counter() - started) * 1000)
        before = statistics.median(times["as trained"])
        for name, taken in times.items():
            middle = statistics.median(taken)
            print(f"{size} {name:21} median {middle:7.1f} ms, {before / middle:.2f} times as fast")


if __name__ == "__main__":
    main()
