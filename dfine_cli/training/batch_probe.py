"""``--batch auto``: the largest batch whose worst step fits into memory.

The worst step has the largest size of multi-scale training and the most crowded images. It is taken for real, with
pixels of noise: memory depends on shapes alone. The learning rates are made for ``optim.nominal_batch``, up to which
gradients accumulate, so candidates are its divisors: what is found changes speed and memory, not what one optimizer
step sees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from dfine_cli.config.schema import Recipe
from dfine_cli.data.coco import CocoFile, load_coco
from dfine_cli.errors import DfineError
from dfine_cli.training.clock import Clock
from dfine_cli.training.guard import Guard
from dfine_cli.training.loop import to_device, train_step
from dfine_cli.training.memory import free_mb
from dfine_cli.training.monitor import Monitor
from dfine_cli.training.run import Setup, set_up
from dfine_cli.types import Batch, Target

SHARE = 0.8
"""Share of the memory that a step may take; the rest is for evaluation, and for what others begin to use."""
WORKER_MB = 350.0
"""Memory of a process that loads data, on the CPU's side."""

Measure = Callable[[int], float | None]
"""Peak memory in MiB of a step with so many images; None where it did not fit."""


@dataclass(frozen=True)
class Probe:
    """What was found.

    Args:
        batch: The largest that fits.
        limit_mb: What a step was allowed to take.
        measured: Peak memory in MiB of the batches that were tried; None where it did not fit.
        worst: The step in words.
        most: The largest that was looked at, ``optim.nominal_batch``.
    """

    batch: int
    limit_mb: float
    measured: dict[int, float | None]
    worst: str
    most: int

    def tell(self) -> str:
        """The finding as a line."""
        tried = ", ".join(f"{n}: {'-' if mb is None else f'{mb:.0f}'} MB" for n, mb in self.measured.items())
        end = "; optim.nominal_batch, more is not tried" if self.batch == self.most else ""
        return f"batch {self.batch} fits into {self.limit_mb:.0f} MB ({self.worst}; measured {tried}{end})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "batch": self.batch,
            "limit_mb": round(self.limit_mb),
            "measured_mb": {n: mb and round(mb) for n, mb in self.measured.items()},
            "worst_step": self.worst,
        }


def probe_batch(recipe: Recipe, monitor: Monitor | None = None) -> Probe:
    """Try worst steps of a recipe, from one image upwards, until memory says no.

    Args:
        recipe: The run; its batch does not matter unless it names no ``nominal_batch``.
        monitor: Told about the data.

    Raises:
        DfineError: Not even one image fits.
    """
    target = recipe.optim.nominal_batch or recipe.optim.batch
    optim = recipe.optim.model_copy(update={"batch": 1, "nominal_batch": 1})
    alone = recipe.model_copy(update={"optim": optim, "data": recipe.data.model_copy(update={"workers": 0})})
    setup = set_up(alone, monitor or Monitor(), start=False)
    setup.loader.close()
    assert recipe.data.train_json is not None  # set_up has read it
    counts = crowded(load_coco(recipe.data.train_json), 4 if recipe.augment.mosaic else 1)
    device = setup.plan.device
    limit = SHARE * free_mb(device) - (recipe.data.workers * WORKER_MB if device.type == "cpu" else 0.0)
    height, width = max(setup.loader.sizes, key=lambda size: size[0] * size[1])
    worst = f"worst step: {width}x{height}, up to {max(counts, default=0)} objects an image"
    best, measured = largest(divisors(target), lambda n: _measure(setup, (height, width), counts, n), limit)
    if best is None:
        needs = measured[1]
        raise DfineError(
            f"not even one image fits: {'more' if needs is None else f'{needs:.0f} MB'} is needed, "
            f"{limit:.0f} MB may be taken ({worst})",
            "take a smaller --size or --input-size, or free memory",
        )
    return Probe(best, limit, measured, worst, target)


def divisors(number: int) -> list[int]:
    """All divisors, small to large."""
    return [n for n in range(1, number + 1) if number % n == 0]


def crowded(file: CocoFile, tiles: int) -> list[int]:
    """Objects of the most crowded training images, most first.

    Args:
        file: The annotations.
        tiles: Images that augmentation may put into one.
    """
    rows = file.image_rows[(file.image_rows >= 0) & ~file.annotations.crowd]
    counts = np.sort(np.bincount(rows, minlength=len(file.images)))[::-1].tolist()
    return [sum(counts[i : i + tiles]) for i in range(0, len(counts), tiles)]


def largest(
    candidates: Sequence[int], measure: Measure, limit_mb: float
) -> tuple[int | None, dict[int, float | None]]:
    """The largest candidate whose memory stays below the limit, and what was measured on the way.

    Memory grows with the batch along a line, so that two measurements tell where to go on; what is returned has
    been measured itself. Batches are tried in ascending order, as the peak of a process never falls.

    Args:
        candidates: Ascending.
        measure: Takes a step.
        limit_mb: What it may take, in MiB.
    """
    measured: dict[int, float | None] = {}
    best: int | None = None
    waiting = list(candidates)
    while waiting:
        tried = [(n, mb) for n, mb in measured.items() if mb is not None]
        batch = waiting[0] if len(tried) < 2 else _farthest(waiting, tried, limit_mb)
        if batch is None:
            return best, measured
        measured[batch] = mb = measure(batch)
        if mb is None or mb > limit_mb:
            return best, measured
        best, waiting = batch, [n for n in waiting if n > batch]
    return best, measured


def _farthest(waiting: Sequence[int], tried: Sequence[tuple[int, float]], limit_mb: float) -> int | None:
    """The largest batch that the line through the last two measurements puts below the limit.

    At most four times the last one: the line is flat where the process needed more memory before.
    """
    (n1, mb1), (n2, mb2) = tried[-2:]
    slope = max((mb2 - mb1) / (n2 - n1), 0.0)
    fitting = (n for n in waiting if mb2 + slope * (n - n2) <= limit_mb)
    return max((n for n in fitting if n <= 4 * n2 or n == waiting[0]), default=None)


def _measure(setup: Setup, size: tuple[int, int], counts: Sequence[int], batch: int) -> float | None:
    """Peak memory of one worst step in MiB; None where the device had not enough."""
    device = setup.plan.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    setup.state.train_mode()
    try:
        with TemporaryDirectory() as folder:
            step = to_device(_worst(size, counts, batch, setup.state.model.num_classes), device)
            train_step(setup.state, setup.plan, Guard(Path(folder)), [step])
    except torch.OutOfMemoryError:
        setup.state.optimizer.zero_grad(set_to_none=True)
        return None
    return Clock(device).memory_mb()


def _worst(size: tuple[int, int], counts: Sequence[int], batch: int, classes: int) -> Batch:
    """A batch of noise with as many objects as the most crowded images have."""
    rng = torch.Generator().manual_seed(0)
    targets = []
    for i in range(batch):
        objects = counts[i % len(counts)] if counts else 0
        centres = 0.2 + 0.6 * torch.rand(objects, 2, generator=rng)
        sides = 0.05 + 0.25 * torch.rand(objects, 2, generator=rng)
        labels = torch.randint(classes, (objects,), generator=rng)
        targets.append(Target(labels, torch.cat((centres, sides), 1), i, size))
    return Batch(torch.rand(batch, 3, *size, generator=rng), targets)
