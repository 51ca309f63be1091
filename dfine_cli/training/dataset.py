"""The data of a run, opened and checked before the first step."""

from dataclasses import dataclass
from pathlib import Path

from dfine_cli.config.schema import Recipe
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoDataset, CocoFile, load_coco
from dfine_cli.data.doctor import check
from dfine_cli.errors import UsageError, naming
from dfine_cli.training.monitor import Monitor


@dataclass(frozen=True)
class TrainingData:
    """Training and validation sets with one class map."""

    classes: ClassMap
    train: CocoDataset
    val: CocoDataset | None
    val_json: Path | None


def open_data(recipe: Recipe, monitor: Monitor) -> TrainingData:
    """Open the data that the recipe names and refuse what would fail later.

    Raises:
        UsageError: The recipe names no training data, or only half of a split.
        CheckError: The data has errors; the message names file, id and fix.
    """
    d = recipe.data
    train = _open_split("train", d.train_json, d.train_images)
    if train is None:
        raise UsageError(
            "the recipe names no training data",
            "write a config with `dfine init DATA`, or add --set data.train_json=… --set data.train_images=…",
        )
    val = _open_split("val", d.val_json, d.val_images)
    with naming(train[0].path):
        classes = ClassMap.build(train[0].categories, recipe.categories.remap)
    splits = {"train": train} | ({"val": val} if val else {})
    report = check(
        splits,
        classes,
        num_queries=recipe.model.num_queries,
        exif=d.exif,
        on_bad_image=d.on_bad_image,
        decode=d.on_bad_image == "skip",  # what is left out is told now: the loader skips in silence
    )
    report.raise_for_errors()
    for finding in report.findings:
        monitor.note(f"{finding.severity}: {finding}")

    def dataset(split: tuple[CocoFile, Path]) -> CocoDataset:
        return CocoDataset(*split, classes, exif=d.exif, on_bad_image=d.on_bad_image)

    return TrainingData(classes, dataset(train), dataset(val) if val else None, d.val_json)


def _open_split(name: str, json: Path | None, images: Path | None) -> tuple[CocoFile, Path] | None:
    if json is None and images is None:
        return None
    if json is None or images is None:
        missing = f"data.{name}_json" if json is None else f"data.{name}_images"
        raise UsageError(f"the recipe does not set {missing}", f"add --set {missing}=…")
    return load_coco(json), images
