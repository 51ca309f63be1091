"""What ``dfine init`` and ``dfine finetune`` decide from the data, each value with its reason.

Pure functions of a few figures.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dfine_cli.config.schema import Optim, Recipe

Kind = Literal["scratch", "finetune"]
"""Folder of the recipes: from nothing, or from weights that are there."""


class Length(NamedTuple):
    """How long a run of a kind is."""

    steps: int
    """Optimizer steps to aim at."""
    most_epochs: int
    fewest_epochs: int


LENGTHS: dict[Kind, Length] = {
    # About where a small detector from scratch stops gaining quickly.
    "scratch": Length(4000, 150, 12),
    # Backbone and encoder know how to see already; what is learned anew are rows of heads and a few layers.
    "finetune": Length(1500, 80, 10),
}
MOST_EVALUATIONS = 50

FEW_CLASSES = 5
"""Up to so many classes count as few, and ``SIMPLE_SCENE`` objects an image as a simple scene."""
SIMPLE_SCENE = 5.0


@dataclass(frozen=True)
class Facts:
    """The figures that count."""

    train_images: int
    most_boxes: int
    """In one image."""
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    cpus: int
    boxes_per_image: float = 0.0


class Choice(NamedTuple):
    """A value for a key of the recipe, and why."""

    value: object
    reason: str


def choose_input_size(median_image: tuple[int, int]) -> Choice:
    """A square input: the published 640 pixels, less where the images themselves are smaller.

    Args:
        median_image: (height, width) of the usual image in pixels, (0, 0) if not known.
    """
    height, width = median_image
    longest = max(median_image)
    if not longest:
        return Choice([640, 640], "the file does not say how large its images are; 640 is the published size")
    side = min(640, max(320, math.ceil(longest / 32) * 32))
    why = (
        "640 is the published size, 320 is about 4 times as fast"
        if side == 640
        else "a larger input would only cost time"
    )
    return Choice([side, side], f"images are {width}x{height} (median); {why}")


def choose(base: Recipe, facts: Facts, kind: Kind = "scratch") -> dict[str, Choice]:
    """Values by dotted key for a recipe of a kind, whose other values are those of ``base``."""
    batches = _batches(base.optim, facts.train_images)
    optim = base.optim.model_copy(update={key.partition(".")[2]: c.value for key, c in batches.items()})
    choices = {
        "data.workers": Choice(min(8, facts.cpus), f"this machine has {facts.cpus} processor cores"),
        "categories.remap": Choice("auto", _tell_classes(facts)),
        **batches,
        "schedule.epochs": _epochs(optim, facts.train_images, LENGTHS[kind]),
    }
    if facts.most_boxes > base.model.num_queries:
        queries = math.ceil(1.1 * facts.most_boxes / 100) * 100
        choices["model.num_queries"] = Choice(queries, f"one image has {facts.most_boxes} objects")
    return choices


def choose_start(size: str, facts: Facts) -> Choice:
    """Published weights of a size to begin with, as their authors advise.

    Those from Objects365 are better for complex scenes, but may overfit where a few simple classes are to be
    found, for which COCO alone is advised. Size N is published for COCO only.
    """
    if size == "n":
        return Choice("n/coco", "size N is published for COCO only")
    seen = f"{len(facts.class_names)} classes and {facts.boxes_per_image:.1f} objects an image"
    if len(facts.class_names) <= FEW_CLASSES and facts.boxes_per_image <= SIMPLE_SCENE:
        return Choice(f"{size}/coco", f"{seen} are simple: weights from Objects365 may overfit on them")
    return Choice(f"{size}/obj2coco", f"{seen} are complex: Objects365 before COCO has seen more of the kind")


def choose_interval(epochs: int) -> Choice | None:
    """Epochs between evaluations of a long run; None where every epoch can be evaluated."""
    every = math.ceil(epochs / MOST_EVALUATIONS)
    if every == 1:
        return None
    return Choice(every, f"{epochs} epochs would spend much of their time on evaluation")


def steps_per_epoch(optim: Optim, images: int) -> int:
    """Optimizer steps of one pass over ``images``, about."""
    return max(1, images // _images_per_step(optim))


def _images_per_step(optim: Optim) -> int:
    return max(optim.batch, optim.nominal_batch or 0)


def _batches(optim: Optim, images: int) -> dict[str, Choice]:
    if images >= 2 * _images_per_step(optim):
        why = "if memory runs out lower it alone: gradients accumulate up to nominal_batch"
        return {"optim.batch": Choice(optim.batch, why)}
    half = max(1, images // 2)
    batch = min(optim.batch, half)
    why = f"there are only {images} images, and an epoch needs some steps"
    return {
        "optim.batch": Choice(batch, why),
        "optim.nominal_batch": Choice(half // batch * batch, why),
    }


def _epochs(optim: Optim, images: int, length: Length) -> Choice:
    each = steps_per_epoch(optim, images)
    epochs = min(length.most_epochs, max(length.fewest_epochs, round(length.steps / each)))
    limits = {
        length.most_epochs: f", but at most {length.most_epochs} epochs",
        length.fewest_epochs: f", but at least {length.fewest_epochs}",
    }
    return Choice(
        epochs,
        f"{images} images at {_images_per_step(optim)} a step are {each} steps an epoch, {epochs * each} in all; "
        f"the aim is {length.steps} steps{limits.get(epochs, '')}",
    )


def _tell_classes(facts: Facts) -> str:
    pairs = [
        f"{i} -> {k} {n}" for k, (i, n) in enumerate(zip(facts.category_ids, facts.class_names, strict=True))
    ]
    shown = ", ".join(pairs[:6]) + (", …" if len(pairs) > 6 else "")
    return f"{len(pairs)} classes, numbered by category id: {shown}"
