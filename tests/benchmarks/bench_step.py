"""Seconds of one training step: forward, criterion, backward, clipping, optimizer and EMA.

    python tests/benchmarks/bench_step.py                      # D-FINE-N, 320x320, batch 8, 13 boxes an image
    python tests/benchmarks/bench_step.py --parts              # where the time goes
    python tests/benchmarks/bench_step.py --recipe scratch/n   # beside the step of a recipe, in turns
    python tests/benchmarks/bench_step.py --transformers       # beside the D-FINE of transformers, in turns
    python tests/benchmarks/bench_step.py --device cuda --side 640 --batch 32 --amp bf16 --compile

Run it on a quiet machine; compare ratios of one run, not seconds of two.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before torch is loaded

import torch

from dfine_cli.backends.torch_backend import build_described
from dfine_cli.config.load import load_recipe
from dfine_cli.config.schema import Optim, Recipe, Run
from dfine_cli.losses.criterion import build_criterion
from dfine_cli.model.dfine import build_model
from dfine_cli.phases import Phases
from dfine_cli.training.ema import Ema
from dfine_cli.training.guard import Guard
from dfine_cli.training.loop import Plan, to_device, train_step
from dfine_cli.training.memory import keep_freed_blocks
from dfine_cli.training.objective import Detection
from dfine_cli.training.optimizer import build_optimizer
from dfine_cli.training.precision import choose_precision
from dfine_cli.training.state import TrainState
from dfine_cli.types import Batch, Target

CLASSES = 80


def make_batch(images: int, side: int, boxes: int) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def target(number: int) -> Target:
        size = torch.rand(boxes, 2, generator=generator) * 0.3 + 0.05
        centre = size / 2 + torch.rand(boxes, 2, generator=generator) * (1 - size)
        labels = torch.randint(0, CLASSES, (boxes,), generator=generator)
        return Target(labels, torch.cat((centre, size), 1), number, (side, side))

    return Batch(torch.rand(images, 3, side, side, generator=generator), [target(i) for i in range(images)])


def our_step(recipe: Recipe, batch: Batch, device: torch.device) -> Callable[[], None]:
    torch.manual_seed(0)
    side = batch.images.shape[-1]
    model = build_described(recipe.size, CLASSES, (side, side), recipe.model.model_dump()).train()
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as training.run does
    if recipe.run.compile:
        model.compile()
    criterion = build_criterion(
        recipe.loss, num_classes=CLASSES, reg_max=32, up=0.5, reg_scale=model.reg_scale
    )
    plan = Plan(recipe, Phases(1), 1000, device, choose_precision(recipe.optim.amp, device))
    state = TrainState(
        model=model,
        ema=Ema(model, lambda t: 0.999),
        optimizer=build_optimizer(model, recipe.optim, recipe.size),
        scaler=plan.precision.scaler(),
        objectives=[Detection(criterion)],
    )
    guard = Guard(Path())
    batch = to_device(batch, device)
    return lambda: train_step(state, plan, guard, [batch]) and None


def their_step(size: str, batch: Batch) -> Callable[[], None]:
    """D-FINE of transformers with its own loss; clipping and AdamW as ours, no EMA (it has none)."""
    from transformers import DFineConfig, DFineForObjectDetection

    from dfine_cli.zoo.huggingface import library_config

    side = batch.images.shape[-1]
    names = [str(number) for number in range(CLASSES)]
    state = build_model(size, CLASSES, input_size=(side, side)).state_dict()
    config = DFineConfig.from_dict(library_config(size, names, state, {}))
    torch.manual_seed(0)
    model = DFineForObjectDetection(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels = [{"class_labels": t.labels, "boxes": t.boxes} for t in batch.targets]
    mask = torch.ones(len(batch.images), side, side, dtype=torch.long)

    def step() -> None:
        loss = model(pixel_values=batch.images, pixel_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="n")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--boxes", type=int, default=13)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", choices=("off", "bf16", "fp16"), default="off")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--recipe", help="one more step, with optimizer, loss and denoising of this recipe")
    parser.add_argument("--transformers", action="store_true")
    parser.add_argument("--parts", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_blocks()  # as training.run does; for both
    device = torch.device(options.device)
    batch = make_batch(options.batch, options.side, options.boxes)
    optim = Optim(batch=options.batch, groups="clean", amp=options.amp)
    plain = Recipe(size=options.size, optim=optim, run=Run(compile=options.compile))
    steps = {"dfine": our_step(plain, batch, device)}
    if options.recipe:
        steps[options.recipe] = our_step(load_recipe(options.recipe).recipe, batch, device)
    if options.transformers:
        steps["transformers"] = their_step(options.size, batch)
    times: dict[str, list[float]] = {name: [] for name in steps}
    warm_up = 5 if device.type == "cuda" else 2
    for run in range(options.runs + warm_up):
        for name, step in steps.items():  # in turns, so that a busy moment hits both
            if (taken := seconds(step, device)) and run >= warm_up:
                times[name].append(taken)
    for name, taken in times.items():
        middle = statistics.median(taken)
        print(
            f"{name:14} median {middle:.4f} s, best {min(taken):.4f} s, {len(taken)} steps, "
            f"{options.batch / middle:.1f} images/s"
        )
    if device.type == "cuda":
        print(f"{torch.cuda.get_device_name()}, peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
    if options.transformers:
        ratio = statistics.median(times["transformers"]) / statistics.median(times["dfine"])
        print(f"dfine is {ratio:.2f} times as fast")
    if options.parts:
        with torch.profiler.profile() as profile:
            steps["dfine"]()
        print(
            profile.key_averages().table(
                sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60
            )
        )


if __name__ == "__main__":
    main()
