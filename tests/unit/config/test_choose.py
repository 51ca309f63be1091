"""Values that ``dfine init`` and ``dfine finetune`` choose."""

import pytest

from dfine_cli.config.choose import (
    LENGTHS,
    Facts,
    Kind,
    choose,
    choose_input_size,
    choose_interval,
    choose_start,
    steps_per_epoch,
)
from dfine_cli.config.load import load_recipe

BASE = load_recipe("scratch/n").recipe


def facts(images: int, most_boxes: int = 10, cpus: int = 4) -> Facts:
    return Facts(images, most_boxes, ("cat", "dog"), (3, 7), cpus)


@pytest.mark.parametrize(
    ("median", "side"),
    [
        ((480, 640), 640),
        ((1080, 1920), 640),  # no larger than the published size
        ((375, 500), 512),
        ((64, 48), 320),  # no smaller than this
        ((0, 0), 640),  # not known
    ],
)
def test_input_size(median: tuple[int, int], side: int) -> None:
    choice = choose_input_size(median)
    assert choice.value == [side, side] and choice.reason


@pytest.mark.parametrize("images", [1, 2, 31, 205, 1000, 5000, 118_000])
@pytest.mark.parametrize("kind", LENGTHS)
def test_a_run_has_a_sensible_number_of_steps(images: int, kind: Kind) -> None:
    length = LENGTHS[kind]
    choices = choose(BASE, facts(images), kind)
    keys = ("optim.batch", "optim.nominal_batch")
    update = {key.partition(".")[2]: choices[key].value for key in keys if key in choices}
    optim = BASE.optim.model_copy(update=update)
    epochs = choices["schedule.epochs"].value
    assert isinstance(epochs, int) and length.fewest_epochs <= epochs <= length.most_epochs
    assert 1 <= optim.batch <= images, "an epoch has at least one step"
    if epochs not in (length.fewest_epochs, length.most_epochs):
        assert epochs * steps_per_epoch(optim, images) == pytest.approx(
            length.steps, rel=0.06
        )  # whole epochs
    assert all(choice.reason for choice in choices.values())


def test_workers_follow_the_machine() -> None:
    assert choose(BASE, facts(100, cpus=2))["data.workers"].value == 2
    assert choose(BASE, facts(100, cpus=64))["data.workers"].value == 8


def test_queries_are_raised_only_where_needed() -> None:
    assert "model.num_queries" not in choose(BASE, facts(100, most_boxes=300))
    assert choose(BASE, facts(100, most_boxes=301))["model.num_queries"].value == 400


def test_the_class_rule_is_told() -> None:
    assert "3 -> 0 cat, 7 -> 1 dog" in choose(BASE, facts(100))["categories.remap"].reason


def test_long_runs_are_not_evaluated_after_every_epoch() -> None:
    assert choose_interval(50) is None
    choice = choose_interval(150)
    assert choice is not None and choice.value == 3


@pytest.mark.parametrize(
    ("size", "classes", "boxes", "name"),
    [
        ("n", 60, 20.0, "n/coco"),  # there is no other
        ("s", 2, 1.5, "s/coco"),  # few simple classes
        ("s", 5, 5.0, "s/coco"),
        ("m", 2, 12.0, "m/obj2coco"),  # crowded scenes
        ("x", 6, 1.0, "x/obj2coco"),  # many classes
    ],
)
def test_the_start_follows_the_published_advice(size: str, classes: int, boxes: float, name: str) -> None:
    names = tuple(f"c{i}" for i in range(classes))
    choice = choose_start(size, Facts(100, 30, names, tuple(range(classes)), 4, boxes))
    assert choice.value == name and choice.reason


def test_fine_tuning_is_shorter_than_training_from_scratch() -> None:
    assert all(a < b for a, b in zip(LENGTHS["finetune"], LENGTHS["scratch"], strict=True))


def test_few_images_with_a_batch_that_is_given() -> None:
    optim = BASE.optim.model_copy(update={"batch": 2})
    choices = choose(BASE.model_copy(update={"optim": optim}), facts(10))
    assert choices["optim.batch"].value == 2
    assert choices["optim.nominal_batch"].value == 4  # whole batches, two steps an epoch
