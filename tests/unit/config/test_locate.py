"""Recipes by name and by path."""

from pathlib import Path

import pytest

from dfine_cli.config import locate
from dfine_cli.config.locate import display_name, find_recipe, recipe_names, recipes_folder
from dfine_cli.errors import UsageError


def test_a_name_finds_the_shipped_file() -> None:
    assert find_recipe("coco/s") == recipes_folder() / "coco" / "s.yaml"
    assert "coco/s" in recipe_names() and "base" not in recipe_names()


def test_a_path_finds_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run.yaml", "run.yml", "noend"):
        (tmp_path / name).write_text("size: n")
        assert find_recipe(name).samefile(tmp_path / name)
        assert find_recipe(tmp_path / name) == tmp_path / name
    assert find_recipe("./run.yaml", tmp_path) == tmp_path / "run.yaml"


def test_in_a_wheel_the_recipes_are_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_recipes" / "coco").mkdir(parents=True)
    (tmp_path / "_recipes" / "coco" / "s.yaml").write_text("size: s")
    monkeypatch.setattr(locate, "_PACKAGE", tmp_path)
    assert find_recipe("coco/s") == tmp_path / "_recipes" / "coco" / "s.yaml"
    assert recipe_names() == ["coco/s"]


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("coco/ss", "there is no recipe `coco/ss`", "did you mean coco/s?"),
        ("fintune/n", "there is no recipe `fintune/n`", "did you mean finetune/n?"),
        ("nowhere/run.yaml", "nowhere/run.yaml: recipe not found", "recipes: coco/l"),
        ("/", "is a folder", "recipes: coco/l"),
        ("", "is a folder", "recipes: coco/l"),
    ],
)
def test_unknown_recipes_get_the_near_miss_and_the_list(source: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_recipe(source)
    assert message in caught.value.message and hint in caught.value.hint and "finetune/x" in caught.value.hint


def test_names_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert display_name(recipes_folder() / "coco" / "s.yaml") == "coco/s.yaml"
    assert display_name(tmp_path / "a" / "b.yaml") == "a/b.yaml"
    assert display_name(Path("/elsewhere/b.yaml")) == "/elsewhere/b.yaml"
