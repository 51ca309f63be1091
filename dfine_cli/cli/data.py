"""The data that a word on the command line stands for."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from dfine_cli.errors import UsageError

if TYPE_CHECKING:
    from dfine_cli.data.layout import SplitFiles


class Split(str, Enum):
    """Part of a dataset."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def find_data(source: Path | None, split: Split, images: Path | None) -> "SplitFiles":
    """The annotation file and image folder that ``source`` stands for."""
    from dfine_cli.backends.detector import OPENERS
    from dfine_cli.data.layout import SplitFiles, find_layout

    if source is None:
        raise UsageError(
            "give the data to score on", "a dataset folder, a COCO JSON file, a config or a run folder"
        )
    if source.suffix == ".json" and images is not None:
        return SplitFiles(source, images)
    recipe = source / "recipe.yaml" if source.is_dir() else source
    if recipe.suffix in (".yaml", ".yml") and recipe.is_file():
        return _data_of_recipe(recipe, split)
    if source.is_file() and source.suffix.lower() in OPENERS:
        raise UsageError(
            f"{source}: a model does not say which data to use",
            f"give the data after it, a dataset folder or a COCO JSON file: {source} DATA",
        )
    if any((source / "weights" / name).is_file() for name in ("best.pt", "last.pt")):
        raise UsageError(
            f"{recipe}: is missing, so the data of the run is not known", "give the data as DATA"
        )
    layout = find_layout(source)
    if layout.single and layout.train is not None:
        if source.is_dir() and layout.single_name == "train" and split is not Split.TRAIN:
            raise UsageError(
                f"{source}: there is only the training split, {layout.train.json}",
                "add --split train, or name the file, if scores on what was trained on are meant",
            )
        return layout.train
    return layout.require(split.value)


def _data_of_recipe(recipe: Path, split: Split) -> "SplitFiles":
    files = named_in(recipe, split)
    if files is None:
        raise UsageError(f"{recipe} names no {split.value} data", "give the dataset folder as DATA")
    return files


def named_in(recipe: Path, split: Split) -> "SplitFiles | None":
    """The files of a split in a recipe, None where it names none."""
    from dfine_cli.config.load import load_recipe
    from dfine_cli.data.layout import SplitFiles

    data = load_recipe(recipe).recipe.data
    json, folder = {
        Split.TRAIN: (data.train_json, data.train_images),
        Split.VAL: (data.val_json, data.val_images),
        Split.TEST: (None, None),
    }[split]
    return None if json is None or folder is None else SplitFiles(json, folder)
