"""Every knob of a recipe changes something, or is named here with the test that shows what it changes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dfine_cli.config.keys import KEYS
from dfine_cli.config.schema import Recipe
from dfine_cli.errors import DfineError
from dfine_cli.model.dfine import build_model
from dfine_cli.training.guard import Guard
from dfine_cli.training.loop import groups, to_device, train_step
from dfine_cli.training.lr import lr_factor
from dfine_cli.training.monitor import Monitor
from dfine_cli.training.optimizer import accumulation
from dfine_cli.training.run import set_up

MakeRecipe = Callable[..., Recipe]
Knobs = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]

STEPS = 2
"""Adam's first step hardly depends on the size of a gradient or on its betas; the second one does."""

# Key: another value, and what else must be set for it to count. Two steps must then give other numbers.
CHANGES_STEPS: dict[str, tuple[Any, Knobs]] = {
    "size": ("s", {}),
    "data.input_size": ((96, 64), {}),
    "model.num_queries": (10, {}),
    "model.decoder_layers": (2, {}),
    "model.points": ((4, 4), {}),
    "model.bins": (16, {}),
    "model.weighting_a": (0.25, {}),
    "model.weighting_c": (0.125, {}),
    "model.num_denoising": (0, {}),
    "model.label_noise": (1.0, {}),
    "model.box_noise": (0.1, {}),
    "model.activation": ("silu", {}),
    "model.position_embedding": ("published", {"data.input_size": (96, 64)}),
    "loss.classification": ("focal", {}),
    "loss.alpha": (0.25, {}),
    "loss.gamma": (1.0, {}),
    "loss.class_weight": (2.0, {}),
    "loss.bbox_weight": (1.0, {}),
    "loss.giou_weight": (1.0, {}),
    "loss.fgl_weight": (1.0, {}),
    "loss.ddf_weight": (15.0, {}),
    "loss.temperature": (1.0, {}),
    "loss.cost_class": (100.0, {}),
    "loss.cost_bbox": (0.0, {}),
    "loss.cost_giou": (100.0, {}),
    "optim.kind": ("muon", {}),
    "optim.lr": (2e-3, {}),
    "optim.backbone_lr": (1e-3, {}),
    "optim.weight_decay": (0.5, {}),
    "optim.betas": ((0.5, 0.9), {}),
    "optim.groups": ("published", {"optim.weight_decay": 0.5}),
    "optim.batch": (3, {}),
    "optim.nominal_batch": (4, {}),
    "optim.clip_norm": (0.0, {}),
    "optim.amp": ("bf16", {}),
    "ema.decay": (0.5, {"ema.share": None, "ema.warmup_steps": 1000}),
    "ema.warmup_steps": (1, {"ema.share": None, "ema.decay": 0.1}),
    "ema.share": (1.0, {"schedule.epochs": 20}),
    "augment.photometric": (1.0, {}),
    "augment.channel_swap": (False, {"augment.photometric": 1.0}),
    "augment.zoom_out": (1.0, {}),
    "augment.iou_crop": (0.0, {}),
    "augment.flip": (0.0, {}),
    "augment.flip_vertical": (1.0, {}),
    "augment.mosaic": (1.0, {"schedule.dense_until": 0.5}),
    "augment.multi_scale": (1, {"data.input_size": (128, 128)}),
    "augment.multi_scale_mode": ("bilinear", {"augment.multi_scale": 1, "data.input_size": (128, 128)}),
    "run.seed": (1, {}),
}
# The same for the plan of the run: learning rate of each step, phase and scoring of each epoch.
CHANGES_PLAN: dict[str, tuple[Any, Knobs]] = {
    "schedule.epochs": (3, {}),
    "schedule.curve": ("constant", {}),
    "schedule.final_lr": (0.5, {}),
    "schedule.warmup_steps": (3, {"schedule.warmup_share": None}),
    "schedule.warmup_share": (0.5, {}),
    "schedule.warm_until": (0.5, {}),
    "schedule.dense_until": (0.5, {}),
    "schedule.refine_from": (1.0, {}),
    "evaluation.every": (2, {}),
}
# Key: the test that fails if the knob does nothing.
SHOWN_ELSEWHERE = {
    "model.frozen_backbone": "tests/unit/training/test_run.py::test_from_scratch_a_signal_passes_the_backbone",
    "version": "tests/unit/training/test_knobs.py::test_another_version_is_refused",
    "name": "tests/unit/training/test_run.py::test_a_folder_is_never_written_over",
    "data.train_json": "tests/unit/training/test_knobs.py::test_data_come_from_the_files_named",
    "data.train_images": "tests/unit/training/test_knobs.py::test_data_come_from_the_files_named",
    "data.val_json": "tests/unit/training/test_knobs.py::test_data_come_from_the_files_named",
    "data.val_images": "tests/unit/training/test_knobs.py::test_data_come_from_the_files_named",
    "data.workers": "tests/unit/training/test_knobs.py::test_workers_are_started",
    "data.exif": "tests/unit/data/test_coco.py::test_exif_rotation_decides_where_the_border_is",
    "data.on_bad_image": "tests/unit/training/test_knobs.py::test_a_bad_image_stops_the_run_or_is_skipped",
    "categories.remap": "tests/unit/training/test_knobs.py::test_remap_makes_the_class_map",
    "start.weights": "tests/unit/training/test_knobs.py::test_a_run_begins_with_the_weights_named",
    "start.head": "tests/unit/training/test_knobs.py::test_a_run_begins_with_the_weights_named",
    "start.class_map": "tests/unit/training/test_knobs.py::test_a_run_begins_with_the_weights_named",
    "start.freeze": "tests/unit/training/test_freeze.py::test_what_is_frozen_does_not_change_and_the_rest_does",
    "schedule.early_stop": "tests/unit/training/test_early_stop.py::test_patience",
    "schedule.reload_best": "tests/unit/training/test_run.py::test_two_stages_go_back_to_the_best_weights",
    "evaluation.batch": "tests/unit/training/test_knobs.py::test_scoring_takes_batch_and_weights_from_the_recipe",
    "evaluation.weights": "tests/unit/training/test_knobs.py::test_scoring_takes_batch_and_weights_from_the_recipe",
    "run.folder": "tests/unit/training/test_run.py::test_a_run_leaves_a_folder_that_speaks_for_itself",
    "run.device": "tests/unit/training/test_knobs.py::test_the_device_is_the_one_named",
    "run.compile": "tests/unit/training/test_knobs.py::test_compile_compiles_the_model",
    "run.tensorboard": "tests/unit/training/test_knobs.py::test_tensorboard_writes_events",
}


def with_knobs(make: MakeRecipe, knobs: Knobs) -> Recipe:
    """The toy recipe with values by dotted key."""
    sections: dict[str, Any] = {}
    for key, value in knobs.items():
        section, _, name = key.rpartition(".")
        (sections.setdefault(section, {}) if section else sections)[name] = value
    return make(**sections)


def numbers_of_steps(recipe: Recipe, folder: Path) -> list[float]:
    """Loss terms of the first steps, and where they left raw and averaged weights."""
    setup = set_up(recipe, Monitor())
    steps = groups(setup.loader.epoch(0, setup.plan.phases.at(0)), accumulation(recipe.optim))
    numbers: list[float] = []
    setup.state.model.train()
    for _ in range(STEPS):
        losses = train_step(
            setup.state, setup.plan, Guard(folder), [to_device(b, setup.plan.device) for b in next(steps)]
        )
        numbers += [float(value) for _, value in sorted(losses.items())]
    setup.loader.close()
    for model in (setup.state.model, setup.state.ema.model):
        numbers += [float(p.detach().double().abs().sum()) for p in model.parameters()]
    return numbers


def plan_of(recipe: Recipe, _folder: Path) -> list[object]:
    """Learning-rate factor of every step, phase and scoring of every epoch."""
    plan = set_up(recipe, Monitor()).plan
    rates = [lr_factor(recipe.schedule, step, plan.total_steps) for step in range(plan.total_steps)]
    return [*rates, *((plan.phases.at(e), plan.is_scored(e)) for e in range(plan.phases.epochs))]


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What recipes gave, by probe and knobs: most knobs are compared with the same plain recipe."""
    return {}


@pytest.mark.parametrize(
    ("probe", "key"),
    [(numbers_of_steps, key) for key in CHANGES_STEPS] + [(plan_of, key) for key in CHANGES_PLAN],
    ids=[*CHANGES_STEPS, *CHANGES_PLAN],
)
def test_a_knob_changes_the_run(
    make_recipe: MakeRecipe, tmp_path: Path, seen: dict[str, Any], probe: Callable[..., Any], key: str
) -> None:
    value, context = {**CHANGES_STEPS, **CHANGES_PLAN}[key]
    plain = f"{probe.__name__} {sorted(context.items())}"
    if plain not in seen:
        seen[plain] = probe(with_knobs(make_recipe, context), tmp_path)
    changed = probe(with_knobs(make_recipe, {**context, key: value}), tmp_path)
    assert changed != seen[plain]


def test_the_probe_gives_the_same_numbers_twice(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe()
    assert numbers_of_steps(recipe, tmp_path) == numbers_of_steps(recipe, tmp_path)


def test_every_knob_is_shown_to_do_something() -> None:
    tables = (CHANGES_STEPS, CHANGES_PLAN, SHOWN_ELSEWHERE)
    rows = [key for table in tables for key in table]
    missing = set(KEYS) - set(rows)
    assert not missing, f"add a row of CHANGES_STEPS or CHANGES_PLAN, or a test, for {sorted(missing)}"
    assert set(rows) == set(KEYS) and len(rows) == len(set(rows))


@pytest.mark.parametrize("test", sorted(set(SHOWN_ELSEWHERE.values())))
def test_the_tests_that_are_named_exist(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text()


def test_another_version_is_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ValueError, match="version"):
        make_recipe(version="2025.1")


def test_data_come_from_the_files_named(make_recipe: MakeRecipe, toy_data: Path) -> None:
    train, val = (
        {"json": toy_data / "annotations" / f"instances_{name}.json", "images": toy_data / name}
        for name in ("train", "val")
    )
    turned = {f"train_{k}": v for k, v in val.items()} | {f"val_{k}": v for k, v in train.items()}
    data, other = set_up(make_recipe(), Monitor()).data, set_up(make_recipe(data=turned), Monitor()).data
    assert data.val is not None and other.val is not None
    assert (len(data.train), len(data.val)) == (len(other.val), len(other.train)) == (9, 4)
    assert data.train.image_path(0) == other.val.image_path(0)
    assert (data.val_json, other.val_json) == (val["json"], train["json"])


def test_a_run_begins_with_the_weights_named(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    torch.manual_seed(7)
    published = build_model("n", 80, input_size=(64, 64)).state_dict()
    torch.save({"model": published}, tmp_path / "weights.pth")
    start = {"weights": str(tmp_path / "weights.pth"), "class_map": ("disc=sports ball",)}
    stem, head = "backbone.stem.stem1.conv.weight", "decoder.dec_score_head.0.weight"
    ball = published[head][32]

    def begin(**knobs: Any) -> dict[str, torch.Tensor]:
        return set_up(make_recipe(start=knobs), Monitor()).state.model.state_dict()

    assert not torch.equal(begin()[stem], published[stem])
    carried, unmapped = begin(**start), begin(weights=start["weights"])
    fresh = begin(weights=start["weights"], head="fresh")
    for state, is_ball in ((carried, True), (unmapped, False), (fresh, False)):
        assert torch.equal(state[stem], published[stem])
        assert torch.equal(state[head][0], ball) is is_ball


def test_workers_are_started(make_recipe: MakeRecipe) -> None:
    for workers in (0, 1):
        loader = set_up(make_recipe(data={"workers": workers}), Monitor()).loader
        assert loader._loader is not None and loader._loader.num_workers == workers


def test_a_bad_image_stops_the_run_or_is_skipped(
    make_recipe: MakeRecipe, toy_data: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for picture in (toy_data / "train").iterdir():
        (images / picture.name).write_bytes(picture.read_bytes())
    bad = sorted(images.iterdir())[0]
    bad.write_bytes(b"<html>")
    with pytest.raises(DfineError, match="cannot be read"):
        set_up(make_recipe(data={"train_images": images}), Monitor())
    skipping = make_recipe(data={"train_images": images, "on_bad_image": "skip"})
    assert len(numbers_of_steps(skipping, tmp_path)) > 0


def test_remap_makes_the_class_map(make_recipe: MakeRecipe) -> None:
    assert set_up(make_recipe(), Monitor()).data.classes.rule == "auto"
    with pytest.raises(DfineError, match=r"remap is none, so ids must be 0\.\.4"):
        set_up(make_recipe(categories={"remap": "none"}), Monitor())
    with pytest.raises(DfineError, match="not in the COCO table"):
        set_up(make_recipe(categories={"remap": "coco80"}), Monitor())


class _Scorings(Monitor):
    """Images done after each pass of every evaluation."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def evaluating(self, done: int, total: int) -> None:
        self.done.append(done)


@pytest.mark.parametrize(
    ("knobs", "done"),
    [
        ({"batch": 4, "weights": "ema"}, [4]),
        ({"batch": 3, "weights": "ema"}, [3, 4]),
        ({"batch": 4, "weights": "both"}, [4, 4]),
    ],
)
def test_scoring_takes_batch_and_weights_from_the_recipe(
    make_recipe: MakeRecipe, knobs: Knobs, done: list[int]
) -> None:
    from dfine_cli.training.interrupt import StopRequest
    from dfine_cli.training.score import Scorer

    recipe, monitor = make_recipe(evaluation=knobs), _Scorings()
    setup = set_up(recipe, Monitor())
    row = Scorer(recipe, setup.data, setup.plan.device, monitor, StopRequest())(setup.state)
    assert monitor.done == done
    assert ("ap_raw" in row) == (knobs["weights"] == "both")


def test_the_device_is_the_one_named(make_recipe: MakeRecipe) -> None:
    assert set_up(make_recipe(run={"device": "cpu"}), Monitor()).plan.device == torch.device("cpu")
    with pytest.raises(DfineError, match="device 'cuda:99' is not there"):
        set_up(make_recipe(run={"device": "cuda:99"}), Monitor())


def test_compile_compiles_the_model(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    set_up(make_recipe(), Monitor())
    assert compiled == []
    setup = set_up(make_recipe(run={"compile": True}), Monitor())
    assert compiled == [setup.state.model]


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs the extra `loggers`")
def test_tensorboard_writes_events(make_recipe: MakeRecipe) -> None:
    from dfine_cli.training.run import train

    plain = train(make_recipe(schedule={"epochs": 1}))
    assert not (plain.folder / "tensorboard").exists()
    told = train(make_recipe(schedule={"epochs": 1}, run={"tensorboard": True}))
    (events,) = (told.folder / "tensorboard").iterdir()
    assert b"ap50" in events.read_bytes()
