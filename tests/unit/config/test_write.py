"""A written recipe reads back as the same recipe."""

from pathlib import Path

import pytest

from dfine_cli.config.keys import KEYS, help_of
from dfine_cli.config.load import load_recipe
from dfine_cli.config.schema import Augment, Data, Model, Recipe, Run, Schedule, Start
from dfine_cli.config.write import write_recipe
from dfine_cli.errors import DfineError


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(name="1e-4", size="x"),
        Recipe(
            start=Start(class_map=('a: "b" # \\c=d',)), schedule=Schedule(final_lr=1e-9, warmup_share=0.1)
        ),
        Recipe(model=Model(points=(3, 6, 3), weighting_c=0.125), augment=Augment(mosaic=1)),
        Recipe(run=Run(folder=Path("a b/c: d"), device="cuda:1", compile=True)),
        Recipe(data=Data(train_json=Path("/data/a #1/t.json"), input_size=(32, 4096))),
    ],
)
def test_round_trip(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.yaml"
    write_recipe(recipe, path)
    assert load_recipe(path).recipe == recipe


def test_every_key_stands_with_its_help(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    write_recipe(Recipe(), path)
    text = path.read_text()
    assert all(f"# {help_of(key)}" in text for key in KEYS)
    assert set(load_recipe(path).origins.values()) & {"default"} == set()
    assert max(map(len, text.splitlines())) <= 120


def test_reasons_stand_above_their_key(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    write_recipe(Recipe(), path, {"schedule.epochs": "205 images\nare few", "name": "of the folder"})
    lines = path.read_text().splitlines()
    assert lines[lines.index("# chosen: of the folder") + 1].startswith("name: run")
    assert lines[lines.index("  # chosen: 205 images are few") + 1].startswith("  epochs: 100")


def test_paths_are_relative_to_the_file_so_that_the_folder_can_move(tmp_path: Path) -> None:
    data = Data(train_json=tmp_path / "data" / "t.json", val_json=Path("/t.json"))
    write_recipe(Recipe(data=data), tmp_path / "runs" / "a" / "recipe.yaml")
    assert "train_json: ../../data/t.json" in (tmp_path / "runs" / "a" / "recipe.yaml").read_text()
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "runs").rename(moved / "runs")
    read = load_recipe(moved / "runs" / "a" / "recipe.yaml").recipe.data
    assert read.train_json == moved / "data" / "t.json"
    assert read.val_json == Path("/t.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DfineError, match=r"run\.yaml: disk full"):
        write_recipe(Recipe(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.yaml"] and path.read_text() == "old"
