"""``dfine finetune``: what it chooses, what it passes on, what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from dfine_cli.config.load import load_recipe
from dfine_cli.model.dfine import build_model
from dfine_cli.model.weights import find_entry

if TYPE_CHECKING:
    from tests.cli.conftest import Run

SMALL = ("--input-size", 64, "--workers", 0, "--device", "cpu", "--set", "model.num_denoising=10")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """D-FINE-N for COCO in the published layout."""
    torch.manual_seed(0)
    path = tmp_path / "dfine_n_coco.pth"
    torch.save({"model": build_model("n", 80).state_dict()}, path)
    return path


def shown(run: Run, *words: object) -> dict[str, object]:
    code, out, err = run("finetune", *words, "--show", "--json")
    assert code == 0, err
    values: dict[str, object] = json.loads(out)
    return values


def test_it_trains_from_weights_and_says_what_it_took(run: Run, dataset: Path, weights: Path) -> None:
    code, out, err = run(
        "finetune", dataset, "--from", weights, *SMALL, "--epochs", 1, "--set", "optim.batch=20", "--json",
        "--class-map", "dog=none", "--set", "optim.nominal_batch=20", "--freeze", "encoder",
    )  # fmt: skip
    assert code == 0, err
    values = json.loads(out)
    assert values["schema_version"] == 1
    assert values["start"]["classes"] == {"warm": {"cat": {"from": "cat", "by": "name"}}, "fresh": ["dog"]}
    assert values["rows"][-1]["step"] == 2
    recipe = load_recipe(Path(values["folder"]) / "recipe.yaml").recipe
    assert (recipe.name, recipe.size, recipe.version) == ("my_pets_n", "n", "2026.2")
    assert recipe.start.weights == str(weights) and recipe.start.class_map == ("dog=none",)
    assert recipe.optim.lr == load_recipe("finetune/n").recipe.optim.lr
    for words in (
        "1 of 2 classes are warm-started: cat",
        "rate ",
        "phase ",
        "ema ",
        "chosen: categories.remap auto",
    ):
        assert words in err
    assert "next: dfine eval runs/my_pets_n" in err


def test_the_flags_are_values_of_the_recipe(run: Run, dataset: Path, weights: Path) -> None:
    class_map = Path("map.yaml")
    class_map.write_text("cat: dog\n")
    recipe = shown(
        run, dataset, "--from", weights, "--epochs", 7, "--batch", 4, "--freeze", "backbone", "--early-stop", 3,
        "--backbone-lr-mult", 0.25, "--class-map", class_map, "--set", "optim.lr=1e-3", "--name", "mine", "--seed", 5,
    )["recipe"]  # fmt: skip
    assert isinstance(recipe, dict)
    assert recipe["start"] == {
        "weights": str(weights), "head": "transfer", "class_map": ["cat=dog"], "freeze": "backbone",
    }  # fmt: skip
    assert (recipe["schedule"]["epochs"], recipe["schedule"]["early_stop"]) == (7, 3)
    assert (recipe["optim"]["batch"], recipe["optim"]["backbone_lr"]) == (4, 2.5e-4)
    assert (recipe["name"], recipe["run"]["seed"]) == ("mine", 5)
    recipe = shown(run, dataset, "--from", weights, "--no-head")["recipe"]
    assert isinstance(recipe, dict) and recipe["start"]["head"] == "fresh"


def test_length_and_start_are_chosen_from_the_data(run: Run, dataset: Path) -> None:
    values = shown(run, dataset, "--size", "s", "--batch", 8)
    recipe = values["recipe"]
    assert isinstance(recipe, dict)
    assert recipe["start"]["weights"] == "s/coco", "few simple classes"
    assert recipe["schedule"]["epochs"] == 80
    assert recipe["optim"]["lr"] == load_recipe("finetune/s").recipe.optim.lr


def test_auto_says_what_it_chose_and_why(
    run: Run, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DFINE_MIRROR", str(tmp_path / "nothing here"))
    code, _, err = run("finetune", dataset, "--size", "s", "--dry-run")
    assert code == 1 and "no such file, in the folder that DFINE_MIRROR names" in err
    why = "2 classes and 1.0 objects an image are simple: weights from Objects365 may overfit on them"
    assert f"chosen: start.weights s/coco: {why}" in err


@pytest.mark.parametrize(("start", "size"), [("m/obj2coco", "m"), ("X/coco", "x"), ("b2/imagenet", "m")])
def test_the_size_is_that_of_the_weights(start: str, size: str, run: Run, dataset: Path) -> None:
    recipe = shown(run, dataset, "--from", start)["recipe"]
    assert isinstance(recipe, dict) and recipe["size"] == size and recipe["start"]["weights"] == start


def test_the_activation_is_that_of_the_weights(run: Run, dataset: Path, weights: Path) -> None:
    named = weights.with_name(find_entry("n/deim-coco").file_name)
    named.hardlink_to(weights)
    for start, activation in (("n/deim-coco", "silu"), ("n/coco", "relu"), (named, "silu")):
        recipe = shown(run, dataset, "--from", start)["recipe"]
        assert isinstance(recipe, dict) and recipe["model"]["activation"] == activation


def test_a_config_keeps_its_values(run: Run, dataset: Path, weights: Path) -> None:
    assert run("init", dataset, "--set", "optim.lr=3e-3").code == 0
    code, out, err = run("finetune", "run.yaml", "--show", "--json")
    values = json.loads(out)
    assert code == 0 and "a rate for training from scratch" in err
    assert values["recipe"]["start"]["weights"] == "n/coco"
    assert values["origins"]["start.weights"] == "--from auto"
    scratch = load_recipe("run.yaml").recipe
    assert values["recipe"]["optim"] == scratch.optim.model_dump(mode="json")
    recipe = shown(run, "run.yaml", "--from", weights, "--set", "optim.lr=1e-4")["recipe"]
    assert isinstance(recipe, dict) and recipe["start"]["weights"] == str(weights)


def test_auto_batch_is_what_fits(run: Run, dataset: Path, weights: Path) -> None:
    code, out, err = run(
        "finetune", dataset, "--from", weights, *SMALL, "--batch", "auto", "--dry-run", "--json",
        "--set", "optim.nominal_batch=2",
    )  # fmt: skip
    assert code == 0, err
    values = json.loads(out)
    assert values["batch_probe"]["batch"] == 2 and "batch: batch 2 fits into" in err
    facts = values["dry_run"]
    assert facts["batch"] == "2 = 2 x 1" and not {"frozen", "early stop"} & set(facts)
    assert re.match(r"backbone [\d.e-]+, rest [\d.e-]+ \(scaled", facts["lr"]), facts["lr"]
    assert not Path("runs").exists()


def test_data_without_validation_is_split_always_the_same(run: Run, unsplit: Path, weights: Path) -> None:
    for _ in range(2):
        recipe = shown(run, unsplit, "--from", weights)["recipe"]
        assert isinstance(recipe, dict)
        files = sorted(Path("runs/splits").iterdir())
        assert [path.name.rpartition("_")[2] for path in files] == ["train.json", "val.json"]
        assert Path(recipe["data"]["val_json"]) == files[1].absolute()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--from", "q.pth"), 2, "no such file"),
        (("--from", "s/nothing", "--dry-run"), 2, "no published weights are called 's/nothing'"),
        (("--batch", "many"), 2, "--batch many: must be a number or auto"),
        (("--freeze", "all"), 2, "`start.freeze` = all"),
        (("--backbone-lr-mult", 0), 2, "must be above 0"),
        (("--class-map", "none.yaml"), 2, "no such file"),
        (("--class-map", "cat=dog", "--no-head"), 2, "--class-map and --no-head"),
        (("--size", "q"), 2, "there is no recipe `finetune/q`"),
    ],
)
def test_mistakes_are_told(
    words: tuple[object, ...], code: int, message: str, run: Run, dataset: Path
) -> None:
    found = run("finetune", dataset, *words)
    assert found.code == code and message in found.err, found.err


def test_weights_of_another_size_are_refused(run: Run, dataset: Path, weights: Path) -> None:
    found = run("finetune", dataset, "--from", weights, "--size", "s", *SMALL, "--dry-run")
    assert found.code == 2 and "is D-FINE-N, but the recipe is for size S" in found.err
