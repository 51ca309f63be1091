"""A dataset in FiftyOne: images by their paths, ground truth, and the detections of one model beside another."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.images import ImageError, image_size
from dfine_cli.errors import UsageError
from dfine_cli.visualize.fiftyone_labels import Findings
from dfine_cli.visualize.fiftyone_views import TRUTH, WORST, save_views, set_colours
from dfine_cli.visualize.source import Shown, require_readable

MARK = "dfine"
"""Key in the ``info`` of datasets that are ours."""
_OTHER_NAME = "choose another name with --dataset"
_CHUNK = 200
"""Images whose labels are sent at a time."""


class Bridged(NamedTuple):
    """What was put into FiftyOne."""

    dataset: Any
    """FiftyOne's dataset."""
    model: str
    """Field of the model's detections."""
    first_view: str | None
    """Name of the saved view to begin with; None if there is nothing to look at first."""
    views: list[str]
    """Names of the saved views."""
    images: int
    unread: int
    """Images that are not there or are none; they are left out."""
    others: list[str]
    """Fields of models that were there before."""
    outdated: list[str]
    """Those of them that were judged by other annotations."""


def dataset_name(origin: Path) -> str:
    """What a dataset is called if the user does not say: by its folder and the name of the annotation file.

    Args:
        origin: An annotation file, an image, or a folder of images.
    """
    if origin.suffix != ".json":
        return origin.absolute().name
    folder = origin.absolute().parent
    part = re.sub(r"^instances_|^_annotations\.coco$", "", origin.stem)
    if folder.name == "annotations":
        folder = folder.parent
    return "-".join(filter(None, (folder.parent.name if not part else "", folder.name, part)))


def find_dataset(fiftyone: ModuleType, name: str, origin: Path) -> Any | None:
    """Our dataset of this name; None if there is none yet.

    Args:
        fiftyone: The module, connected.
        name: Of the dataset.
        origin: What it is made from: an annotation file, an image, or a folder of images.

    Raises:
        UsageError: The name belongs to a dataset that is not ours, or of other data.
    """
    if not fiftyone.dataset_exists(name):
        return None
    dataset = fiftyone.load_dataset(name)
    if MARK not in dataset.info:
        raise UsageError(f"FiftyOne has a dataset {name!r} that dfine did not make", _OTHER_NAME)
    known = _read_mark(dataset)["origin"]
    if known != str(origin.absolute()):
        raise UsageError(f"the dataset {name!r} in FiftyOne is of other data: {known}", _OTHER_NAME)
    return dataset


def open_dataset(fiftyone: ModuleType, name: str, origin: Path) -> Any:
    """Our dataset of this name, which is made if there is none; the arguments are those of ``find_dataset``.

    Raises:
        UsageError: As ``find_dataset``, or the name is none that FiftyOne takes.
    """
    found = find_dataset(fiftyone, name, origin)
    if found is not None:
        return found
    try:
        dataset = fiftyone.Dataset(name, persistent=True)
    except ValueError as error:
        raise UsageError(f"FiftyOne takes no dataset {name!r}: {error}", _OTHER_NAME) from error
    _write_mark(dataset, {"origin": str(origin.absolute()), "truth": "", "models": {}})
    return dataset


def put_model(
    fiftyone: ModuleType,
    dataset: Any,
    shown: Shown,
    source: Path,
    threshold: float,
    on_progress: Callable[[int, int], None],
) -> Bridged:
    """Put images, ground truth and the detections of a model into a dataset; what it has of the model is replaced.

    Args:
        fiftyone: The module, connected.
        dataset: What ``open_dataset`` gives.
        shown: Images with detections.
        source: The model or results file; a model that is known by it keeps its field.
        threshold: Score from which detections count for an image.
        on_progress: Told how many of how many images are done.

    Raises:
        DfineError: None of the images can be read.
    """
    places, sizes = _find_images(shown)
    require_readable(len(places), len(shown.names))
    findings = Findings(fiftyone, shown, threshold, sizes)
    ids, new = _put_images(fiftyone, dataset, shown, places, sizes)
    mark = _read_mark(dataset)
    model = field_name(source, mark["models"])
    digest = _digest(shown)
    untold = set(places) if mark["truth"] != digest else new
    images = sorted(places, key=lambda image: image not in untold)
    for start, end in _chunks(len(untold), len(images)):
        chunk = images[start:end]
        for field, values in _values(findings, model, chunk, anew=start < len(untold)):
            by_id = {ids[image]: value for image, value in zip(chunk, values, strict=True)}
            dataset.set_values(field, by_id, key_field="id", dynamic=True)
        on_progress(end, len(images))
    mark["truth"] = digest
    mark["models"][model] = {"source": str(source.absolute()), "threshold": threshold, "truth": digest}
    _write_mark(dataset, mark)
    classes = shown.matching.truth.names
    seen = np.union1d(
        shown.matching.truth.classes,
        shown.matching.detections.classes[shown.matching.detections.scores >= threshold],
    )
    thresholds = {name: entry["threshold"] for name, entry in mark["models"].items()}
    set_colours(fiftyone, dataset, thresholds, model)
    views = save_views(fiftyone, dataset, model, thresholds, [classes[k] for k in seen.tolist()])
    worst = f"{model}: {WORST}"
    others = [name for name in mark["models"] if name != model]
    return Bridged(
        dataset,
        model,
        worst if worst in views and findings.images.errors.any() else None,
        views,
        len(images),
        len(shown.names) - len(images),
        others,
        [name for name in others if mark["models"][name]["truth"] != digest],
    )


def field_name(source: Path, models: Mapping[str, Mapping[str, Any]]) -> str:
    """The field of a model's detections: its own if the dataset has it, else a free one after the name of its file.

    Args:
        source: The model or results file.
        models: What the dataset has, with the ``source`` of each.
    """
    for name, entry in models.items():
        if entry["source"] == str(source.absolute()):
            return name
    path = source.absolute()
    run = path.parent.parent
    in_run = path.parent.name == "weights" and (run / "recipe.yaml").is_file()
    stem = f"{run.name}_{path.stem}" if in_run and path.stem != "best" else run.name if in_run else path.stem
    base = re.sub(r"\W+", "_", stem, flags=re.ASCII).strip("_").lower()
    if not base or base[0].isdigit() or base in _TAKEN:
        base = f"model_{base}".rstrip("_")
    name, count = base, 1
    while name in models:
        count += 1
        name = f"{base}_{count}"
    return name


_TAKEN = {TRUTH, "id", "image_id", "filepath", "tags", "metadata", "created_at", "last_modified_at"}
"""Fields that samples have already."""


def _read_mark(dataset: Any) -> dict[str, Any]:
    """What we know of a dataset of ours: where it is from, a digest of its annotations, and its models."""
    return json.loads(json.dumps(dataset.info[MARK]))  # type: ignore[no-any-return]


def _write_mark(dataset: Any, mark: dict[str, Any]) -> None:
    dataset.info = {**dataset.info, MARK: mark}  # what is changed inside of it would not be saved
    dataset.save()


def _find_images(shown: Shown) -> tuple[dict[int, Path], NDArray[np.int64]]:
    """The files of images that are there, and the sizes [I, 2] of all."""
    places: dict[int, Path] = {}
    sizes = shown.matching.truth.sizes.copy()
    for image in range(len(shown.names)):
        path = shown.images.path(image)
        if path is None:
            continue
        if not sizes[image].all():
            try:
                sizes[image] = image_size(path)
            except ImageError:
                continue
        places[image] = path
    return places, sizes


def _put_images(
    fiftyone: ModuleType, dataset: Any, shown: Shown, places: dict[int, Path], sizes: NDArray[np.int64]
) -> tuple[dict[int, str], set[int]]:
    """Add images that are new, take out those that the data has no longer.

    An image that the annotations know by its id stays the same sample wherever it lies, with all that is known of it.

    Returns:
        The id of each sample, and the images that were not there.
    """
    known = dict(zip(*dataset.values(["filepath", "id"]), strict=True))
    paths = {image: str(path.absolute()) for image, path in places.items()}
    if shown.judged and known:
        known = _move_images(
            dataset, known, {int(shown.matching.truth.image_ids[i]): p for i, p in paths.items()}
        )
    gone = set(known) - set(paths.values())
    dataset.delete_samples([known[path] for path in gone])
    new = [image for image, path in paths.items() if path not in known]
    dataset.add_samples(
        [
            fiftyone.Sample(
                paths[image],
                image_id=int(shown.matching.truth.image_ids[image]),
                metadata=fiftyone.ImageMetadata(height=int(sizes[image, 0]), width=int(sizes[image, 1])),
            )
            for image in new
        ],
        progress=False,
    )
    known |= dict(zip(*dataset.values(["filepath", "id"]), strict=True))
    return {image: known[path] for image, path in paths.items()}, set(new)


def _move_images(dataset: Any, known: dict[str, str], paths: Mapping[int, str]) -> dict[str, str]:
    """Tell samples where their images lie now.

    Args:
        dataset: The dataset.
        known: Ids of its samples by path.
        paths: Path of each image by its id in the annotations.

    Returns:
        ``known`` with the new paths.
    """
    of_image = dict(zip(*dataset.values(["image_id", "filepath"]), strict=True))
    here = set(paths.values())
    moved = {
        of_image[image_id]: path
        for image_id, path in paths.items()
        if path not in known and image_id in of_image and of_image[image_id] not in here
    }
    if moved:
        dataset.set_values("filepath", {known[old]: path for old, path in moved.items()}, key_field="id")
    return {moved.get(path, path): sample for path, sample in known.items()}


def _chunks(first: int, count: int) -> Iterator[tuple[int, int]]:
    """Start and end of each part of ``count`` images, the ``first`` ones apart from the others."""
    for low, high in ((0, first), (first, count)):
        for start in range(low, high, _CHUNK):
            yield start, min(start + _CHUNK, high)


def _values(findings: Findings, model: str, chunk: list[int], anew: bool) -> Iterator[tuple[str, list[Any]]]:
    """Fields and their values for some images."""
    yield model, findings.predictions(chunk)
    if findings.uncertainty is not None:
        mean = findings.mean_uncertainty()
        yield f"{model}_uncertainty", [mean[image] for image in chunk]
    if not findings.shown.judged:
        return
    if anew:
        yield TRUTH, findings.truth(chunk)
    yield f"{TRUTH}.detections.{model}", findings.outcomes(chunk)
    yield f"{model}_label_errors", findings.label_errors(chunk)
    counts = findings.images
    for name, column in (
        ("tp", counts.correct),
        ("fp", counts.wrong),
        ("fn", counts.missed),
        ("errors", counts.errors),
    ):
        yield f"{model}_{name}", column[chunk].tolist()


def _digest(shown: Shown) -> str:
    """Stands for the annotations: equal if they are."""
    truth = shown.matching.truth
    content = hashlib.sha256(repr((truth.names, truth.file_names)).encode())
    for column in (truth.image_ids, truth.ids, truth.images, truth.classes, truth.boxes_xywh, truth.crowd):
        content.update(np.ascontiguousarray(column).tobytes())
    return content.hexdigest()
