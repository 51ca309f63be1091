import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import torch

from dfine_cli import checkpoint_format as keys
from dfine_cli.backends.detector import open_detector
from dfine_cli.backends.torch_backend import build_described
from dfine_cli.config.load import load_recipe
from dfine_cli.config.schema import Recipe
from dfine_cli.errors import CheckError, DfineError, Interrupted, MissingError, UsageError
from dfine_cli.tensor_file import first_not_finite
from dfine_cli.training import keeper
from dfine_cli.training.monitor import Monitor, Row, StepReport
from dfine_cli.training.run import rehearse, set_up, train
from dfine_cli.training.run_dir import RunDir
from dfine_cli.training.score import Scorer
from dfine_cli.training.state import TrainState

MakeRecipe = Callable[..., Recipe]


class Listener(Monitor):
    """Remembers everything, and presses Ctrl-C after a step if asked to."""

    def __init__(self, stop_at: int | None = None, stop_in_scoring: bool = False) -> None:
        self.steps: list[StepReport] = []
        self.rows: list[Row] = []
        self.stop_at = stop_at
        self.stop_in_scoring = stop_in_scoring

    def step(self, report: StepReport) -> None:
        self.steps.append(report)
        if report.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    def evaluating(self, done: int, total: int) -> None:
        if self.stop_in_scoring:
            os.kill(os.getpid(), signal.SIGINT)

    def epoch(self, row: Row) -> None:
        self.rows.append(row)


def weights(run: Path, key: str = keys.MODEL) -> dict[str, torch.Tensor]:
    return torch.load(run / "weights" / "last.pt", weights_only=True)[key]


def test_a_run_leaves_a_folder_that_speaks_for_itself(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    listener = Listener()
    result = train(recipe, listener)
    assert result.folder.name == "toy"
    assert len(listener.steps) == 2 * (9 // 2)
    assert [r["epoch"] for r in result.rows] == [1, 2]
    assert [r["phase"] for r in result.rows] == ["plain", "refine"]
    for row in result.rows:
        assert {
            "ap",
            "ap_ema",
            "ap_raw",
            "ap50_ema",
            "lr",
            "loss",
            "images_per_s",
            "wait_share",
        } <= row.keys()
        assert row["ap"] == max(row["ap_ema"], row["ap_raw"])
        assert len(row["terms"]) == 38
        assert row["loss"] == pytest.approx(sum(row["terms"].values()), rel=1e-4)
    assert load_recipe(result.folder / "recipe.yaml").recipe == recipe
    assert json.loads((result.folder / "env.json").read_text())["torch"] == torch.__version__
    assert (result.folder / "curves.png").stat().st_size > 1000
    assert not list(result.folder.rglob("*.part"))
    detector = open_detector(result.folder, "cpu")
    assert detector.input_size == (64, 64)
    assert len(detector.classes) == 5


def test_a_folder_is_never_written_over(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(schedule={"epochs": 1})
    first, second = train(recipe).folder, train(recipe).folder
    assert (first.name, second.name) == ("toy", "toy-2")


def test_an_interrupted_run_resumes_to_the_same_numbers(make_recipe: MakeRecipe) -> None:
    whole = train(make_recipe(name="whole"))
    recipe = make_recipe(name="parts")
    stops = {
        "in the middle of an epoch": (Listener(2), 2),
        "after the last step of an epoch": (Listener(4), 4),
        "in its evaluation": (Listener(stop_in_scoring=True), 4),
        "in the second epoch": (Listener(5), 5),
        "in the last evaluation": (Listener(stop_in_scoring=True), 8),
    }
    for where, (listener, step) in stops.items():
        folder = recipe.run.folder / "parts"
        resume = RunDir(folder) if folder.exists() else None
        with pytest.raises(Interrupted, match=f"after step {step}"):
            train(recipe, listener, resume=resume)
        assert not list(folder.rglob("*.part")), where
    parts = train(recipe, resume=RunDir(recipe.run.folder / "parts"))
    for key in (keys.MODEL, keys.EMA):
        expected = weights(whole.folder, key)
        for name, value in weights(parts.folder, key).items():
            assert torch.equal(value, expected[name]), name
    assert [r["ap"] for r in parts.rows] == [r["ap"] for r in whole.rows]
    assert [r["loss"] for r in parts.rows] == [r["loss"] for r in whole.rows]


def test_an_interrupt_does_not_keep_weights_that_are_no_numbers(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    with pytest.raises(Interrupted):
        train(recipe, Listener(4))
    run = RunDir(recipe.run.folder / "toy")
    too_fast = recipe.optim.model_copy(update={"lr": 1e300})
    with pytest.raises(DfineError, match="the run has diverged in epoch 2"):
        train(recipe.model_copy(update={"optim": too_fast}), Listener(5), resume=run)
    assert first_not_finite(weights(run.path)) is None


def test_a_run_of_an_older_version_that_counted_epochs_from_0_goes_on(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(schedule={"epochs": 1})
    run = RunDir(train(recipe).folder)
    (row,) = run.rows()
    run.keep_rows([{**row, "epoch": 0}])
    slower = recipe.optim.model_copy(update={"lr": 1e-9, "backbone_lr": 1e-9})
    longer = recipe.schedule.model_copy(update={"epochs": 2})
    result = train(recipe.model_copy(update={"schedule": longer, "optim": slower}), resume=run)
    assert result.rows[1]["lr"] <= 1e-9, "a change that was allowed counts"
    assert result.rows[0] == row
    assert [json.loads(line)["epoch"] for line in run.metrics.read_text().splitlines()] == [1, 2]


def test_a_second_ctrl_c_while_a_checkpoint_is_written_leaves_the_one_before(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    before: list[bytes] = []
    real = torch.save

    def save(content: object, file: IO[bytes]) -> None:
        path = Path(file.name)
        if path.name.startswith(".last.pt.") and (last := path.with_name("last.pt")).exists():
            before.append(last.read_bytes())
            file.write(b"half")
            raise KeyboardInterrupt
        real(content, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(KeyboardInterrupt):
        train(recipe)
    weights_folder = recipe.run.folder / "toy" / "weights"
    assert not list(weights_folder.glob("*.part"))
    assert (weights_folder / "last.pt").read_bytes() == before[0]


def test_a_step_that_is_not_finite_is_skipped_and_its_batch_kept(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dfine_cli.training import objective

    losses = objective.Detection.losses
    calls = iter(range(100))

    def sometimes_nan(self, batch, outputs):  # type: ignore[no-untyped-def]
        terms = losses(self, batch, outputs)
        return {k: v * torch.nan for k, v in terms.items()} if next(calls) == 1 else terms

    monkeypatch.setattr(objective.Detection, "losses", sometimes_nan)
    result = train(make_recipe(schedule={"epochs": 1}))
    assert result.rows[-1]["skipped"] == 1
    assert (result.folder / "not_finite" / "step-1.pt").is_file()
    assert all(torch.isfinite(v).all() for k, v in weights(result.folder).items() if "anchors" not in k)


def test_accumulation_takes_fewer_steps_over_the_same_images(make_recipe: MakeRecipe) -> None:
    listener = Listener()
    train(make_recipe(optim={"batch": 1, "nominal_batch": 4}, schedule={"epochs": 1}), listener)
    assert len(listener.steps) == 3  # nine images, four a step, the last step with what is left
    assert listener.steps[-1].step == 3


def test_mostly_start_weights_are_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(UsageError, match="start weights"):
        train(make_recipe(ema={"share": None, "decay": 0.9999, "warmup_steps": 0}))


def test_two_stages_go_back_to_the_best_weights(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last phase begins with the best weights of the first, here those after the first of two epochs."""
    kept: list[dict[str, torch.Tensor]] = []
    aps = iter([0.5, 0.4, 0.6])
    real_save, real_load, real_score = keeper.save_checkpoint, keeper.load_state, Scorer.__call__

    def save(path: Path, state: TrainState, *rest: object) -> None:
        real_save(path, state, *rest)
        if path.name == "stage1.pt":
            kept.append({k: v.clone() for k, v in state.model.state_dict().items()})

    def load(path: Path, state: TrainState, **how: bool) -> None:
        moved = state.model.state_dict()
        assert any(not torch.equal(moved[k], v) for k, v in kept[-1].items())
        real_load(path, state, **how)
        kept.append({k: v.clone() for k, v in state.model.state_dict().items()})

    monkeypatch.setattr(keeper, "save_checkpoint", save)
    monkeypatch.setattr(keeper, "load_state", load)
    monkeypatch.setattr(Scorer, "__call__", lambda *words: {**real_score(*words), "ap": next(aps)})
    recipe = make_recipe(schedule={"epochs": 3, "refine_from": 0.667, "reload_best": True, "warmup_share": 0})
    result = train(recipe)
    assert [r["epoch"] for r in result.rows] == [1, 2, 3]
    first, reloaded = kept
    assert all(torch.equal(reloaded[k], v) for k, v in first.items())


def test_data_that_does_not_fit_is_refused_before_the_first_step(
    make_recipe: MakeRecipe, toy_data: Path, tmp_path: Path
) -> None:
    content = json.loads((toy_data / "annotations" / "instances_train.json").read_text())
    content["annotations"][0]["image_id"] = 999_999
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(content))
    with pytest.raises(CheckError, match="image_id that no image has"):
        train(make_recipe(data={"train_json": bad}))
    assert not (tmp_path / "runs").exists()


def test_a_rehearsal_takes_one_step_and_leaves_nothing(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    facts = rehearse(make_recipe())
    assert "loss" in facts["step"]
    assert not (tmp_path / "runs").exists()


def test_no_validation_set_keeps_the_last_weights(make_recipe: MakeRecipe) -> None:
    result = train(make_recipe(data={"val_json": None, "val_images": None}, schedule={"epochs": 1}))
    assert "ap" not in result.rows[-1]
    assert result.best.is_file()


def test_tensorboard_that_is_not_installed_is_told_before_the_run(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingError, match="tensorboard is not installed"):
        train(make_recipe(run={"tensorboard": True}))
    assert not (tmp_path / "runs").exists()


def test_images_that_are_skipped_are_counted_and_told(
    make_recipe: MakeRecipe, toy_data: Path, tmp_path: Path
) -> None:
    images = shutil.copytree(toy_data / "train", tmp_path / "images")
    first, second = sorted(images.iterdir())[:2]
    content = first.read_bytes()
    second.write_bytes(content[:300] + content[-2:])  # begins and ends as a JPEG should
    notes: list[str] = []
    listener = Listener()
    listener.note = notes.append  # type: ignore[method-assign]
    recipe = make_recipe(data={"train_images": images, "on_bad_image": "skip"}, schedule={"epochs": 1})
    train(recipe, listener)
    assert [n for n in notes if "1 images cannot be read and are skipped" in n and second.name in n]


def test_a_backbone_that_starts_from_nothing_is_not_kept_as_it_is(make_recipe: MakeRecipe) -> None:
    with pytest.raises(UsageError, match="keeps stem and batch norms of its backbone") as caught:
        set_up(make_recipe(size="l"), Monitor())
    assert "start.weights=b4/imagenet" in caught.value.hint


@pytest.mark.parametrize("size", ["n", "s", "m", "l", "x"])
def test_from_scratch_a_signal_passes_the_backbone(size: str) -> None:
    recipe = load_recipe(f"scratch/{size}").recipe
    torch.manual_seed(0)
    model = build_described(size, 2, (64, 64), recipe.model.model_dump()).train()
    with torch.no_grad():
        maps = model.backbone(torch.rand(4, 3, 64, 64))
    assert all(found.std() > 0.1 for found in maps)
    assert all(p.requires_grad for p in model.backbone.parameters())
