"""What reading and augmenting costs a training step: the same steps with the loader and with batches in memory.

    python tests/benchmarks/bench_end_to_end.py ANNOTATIONS.json IMAGES [--side 320] [--workers 2]

Epochs of both sorts take turns. With the loader, images are read, augmented (mosaic and all) and handed over
by the workers while the model trains; without it, one epoch of such batches is kept and used again.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before torch is loaded

import torch

from dfine_cli.config.load import load_recipe
from dfine_cli.phases import Phase
from dfine_cli.training.guard import Guard
from dfine_cli.training.loop import to_device, train_step
from dfine_cli.training.monitor import Monitor
from dfine_cli.training.run import set_up
from dfine_cli.types import Batch


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    recipe = load_recipe(
        "scratch/n",
        overrides=[
            f"data.train_json={options.annotations}",
            f"data.train_images={options.images}",
            f"data.input_size=[{options.side}, {options.side}]",
            f"data.workers={options.workers}",
            "run.device=cpu",
        ],
    ).recipe
    setup = set_up(recipe, Monitor())
    setup.state.model.train()
    guard = Guard(Path())

    def seconds_per_step(batches: Iterable[Batch]) -> float:
        steps, started = 0, time.perf_counter()
        for batch in batches:
            train_step(setup.state, setup.plan, guard, [to_device(batch, torch.device("cpu"))])
            steps += 1
        return (time.perf_counter() - started) / steps

    kept = list(setup.loader.epoch(0, Phase.DENSE))
    seconds_per_step(kept[:3])
    ratios = []
    for epoch in range(1, options.rounds + 1):
        without = seconds_per_step(kept)
        with_loader = seconds_per_step(setup.loader.epoch(epoch, Phase.DENSE))
        ratios.append(with_loader / without)
        print(f"with the loader {with_loader:.3f} s a step, without {without:.3f} s: {ratios[-1]:.3f}")
    setup.loader.close()
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
