"""``dfine init``: what it finds, what it writes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfine_cli.config.load import load_recipe

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def test_it_writes_a_recipe_that_says_why(run: Run, dataset: Path) -> None:
    code, out, err = run("init", dataset, "--input-size", "320", "--epochs", 7)
    assert code == 0
    assert err == "next: dfine train run.yaml\n"
    assert "wrote run.yaml" in out and "train" in out and "cat" in out
    recipe = load_recipe("run.yaml").recipe
    assert recipe.name == "my_pets_n"
    assert recipe.size == "n"
    assert recipe.data.input_size == (320, 320)
    assert recipe.schedule.epochs == 7
    assert recipe.data.train_json == dataset / "annotations" / "instances_train.json"
    assert recipe.data.val_images == dataset / "val"
    text = Path("run.yaml").read_text()
    assert "# chosen: 2 classes, numbered by category id: 3 -> 0 cat, 7 -> 1 dog\n  remap: auto" in text
    assert "train_json: My Pets/annotations/instances_train.json" in text, "paths are relative to the file"


def test_epochs_come_from_the_number_of_images(run: Run, dataset: Path) -> None:
    assert run("init", dataset).code == 0
    text = Path("run.yaml").read_text()
    assert "# chosen: 40 images at 8 a step are 5 steps an epoch" in text
    assert load_recipe("run.yaml").recipe.schedule.epochs == 150


def test_rectangular_input_and_sets_count_more_than_choices(run: Run, dataset: Path) -> None:
    code, _, _ = run(
        "init",
        dataset,
        "--input-size",
        "320,512",
        "--set",
        "data.workers=0",
        "--set",
        "schedule.epochs=3",
        "--epochs",
        9,
    )
    recipe = load_recipe("run.yaml").recipe
    assert code == 0
    assert recipe.data.input_size == (320, 512)
    assert recipe.data.workers == 0
    assert recipe.schedule.epochs == 3


def test_it_never_overwrites_without_force(run: Run, dataset: Path) -> None:
    Path("run.yaml").write_text("precious")
    code, _, err = run("init", dataset)
    assert code == 2 and "run.yaml: is there already" in err and "--force" in err
    assert Path("run.yaml").read_text() == "precious"
    assert run("init", dataset, "--force").code == 0
    assert load_recipe("run.yaml").recipe.size == "n"


def test_json_is_one_object(run: Run, dataset: Path) -> None:
    code, out, _ = run("init", dataset, "--json")
    values = json.loads(out)
    assert code == 0
    assert values["schema_version"] == 1
    assert values["splits"]["train"]["images"] == 40
    assert values["splits"]["val"]["boxes"] == 10
    assert [c["name"] for c in values["splits"]["train"]["classes"]] == ["cat", "dog"]
    assert values["doctor"]["errors"] == 0
    assert values["next"] == "dfine train run.yaml"


def test_a_fifth_is_held_out_always_the_same(run: Run, unsplit: Path) -> None:
    code, out, _ = run("init", unsplit)
    assert code == 0 and "run_val.json" in out
    recipe = load_recipe("run.yaml").recipe
    train, val = Path("run_train.json").read_text(), Path("run_val.json").read_text()
    names = [{image["file_name"] for image in json.loads(text)["images"]} for text in (train, val)]
    assert list(map(len, names)) == [16, 4] and not names[0] & names[1]
    assert recipe.data.val_json == Path("run_val.json").absolute()
    assert run("init", unsplit).code == 2, "the split files are in the way too"
    assert run("init", unsplit, "--force").code == 0
    assert Path("run_val.json").read_text() == val


def test_no_split_refuses(run: Run, unsplit: Path) -> None:
    code, _, err = run("init", unsplit, "--no-split")
    assert code == 2 and "no validation split" in err
    assert not Path("run.yaml").exists()


def test_bad_data_stops_before_anything_is_written(run: Run, unsplit: Path) -> None:
    (unsplit / "train" / "train_3.png").unlink()
    code, _, err = run("init", unsplit)
    assert code == 4 and "train_3.png" in err and "hint: " in err
    assert not list(Path().glob("run*"))


@pytest.mark.parametrize("out", [".", "configs/"])
def test_a_folder_as_the_place_is_refused_before_anything_is_written(
    run: Run, unsplit: Path, out: str
) -> None:
    Path("configs").mkdir()
    code, _, err = run("init", unsplit, "--out", out, "--force")
    assert code == 2 and "is a folder" in err and "run.yaml" in err
    assert not list(Path().glob("*.json")) and not list(Path("configs").iterdir())


def test_sizes_that_the_annotations_do_not_give_are_not_invented(run: Run, unsplit: Path) -> None:
    file = unsplit / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    file.write_text(json.dumps(content))
    code, out, err = run("init", unsplit)
    assert code == 0, err
    assert "sizes of objects are not known" in out and "are 0x0" not in out and "0%" not in out


def test_remap_is_written_and_checked(run: Run, dataset: Path) -> None:
    code, _, err = run("init", dataset, "--remap", "none")
    assert code == 2 and "ids must be 0..1" in err
    code, _, err = run("init", dataset, "--remap", "coco81")
    assert code == 2 and "`categories.remap` = coco81" in err


def test_more_objects_than_queries_raise_the_queries(run: Run, dataset: Path) -> None:
    path = dataset / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [
        {**content["annotations"][0], "id": i, "bbox": [1 + i % 40, 1, 4, 4]} for i in range(400)
    ]
    path.write_text(json.dumps(content))
    assert run("init", dataset).code == 0
    assert load_recipe("run.yaml").recipe.model.num_queries == 500  # 440 rounded up to a hundred


def test_the_usual_layouts_of_real_data(run: Run, shared: Path) -> None:
    for name, images in (("bccd", 205), ("fruits_odd", 7), ("voc100", 80)):
        code, out, err = run("init", shared / "data" / name, "--out", f"{name}.yaml", "--json")
        assert code == 0, err
        assert json.loads(out)["splits"]["train"]["images"] == images
