"""What is shown: images with detections of a model or a results file, judged where there is ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.backends.detector import Detector
from dfine_cli.data.coco import Annotations, CocoDataset, CocoFile, CocoImage
from dfine_cli.data.images import read_image
from dfine_cli.data.layout import SplitFiles
from dfine_cli.errors import DfineError, UsageError
from dfine_cli.evaluation.matching import Matching, match_results
from dfine_cli.evaluation.plausible import read_checked
from dfine_cli.evaluation.predict import Progress, detect_all, to_results
from dfine_cli.evaluation.results import Results, to_columns
from dfine_cli.evaluation.score import score_detector
from dfine_cli.evaluation.thresholds import sweep
from dfine_cli.evaluation.truth import Truth, read_truth
from dfine_cli.types import Detections
from dfine_cli.visualize.outcomes import ImageFolder

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of files that are taken for images."""
USUAL = (0.4, "a usual value")
"""The threshold where neither ground truth nor an evaluation says which is best."""
MAX_DETS = 100
"""Detections of a class that are shown on an image."""


class Shown(NamedTuple):
    """Images with detections."""

    matching: Matching
    images: ImageFolder
    names: tuple[str, ...]
    """File name of each image, in the order of ``Truth.image_ids``."""
    judged: bool
    """Whether there is ground truth to judge detections by."""
    operating_point: dict[str, Any] | None = None
    """What an evaluation stored with the model (``checkpoint_format.OPERATING_POINT``)."""
    model_classes: tuple[str, ...] = ()
    """Names of the classes of the model, of which the data may have only some."""
    spread: NDArray[np.float32] | None = None
    """[N, 4] of the detections that count, as in ``Detections.spread``; None where it is not known."""

    def drawn_as(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """[K] the label that each class is drawn as, and the names of these labels.

        They are those of the model where there is one: its classes keep their colours on any data.
        """
        names = self.matching.truth.names
        if not self.model_classes:
            return np.arange(len(names)), names
        return np.array([self.model_classes.index(name) for name in names], np.int64), self.model_classes

    def of_image(self, image: int) -> NDArray[np.int64]:
        """Detections of an image, best first."""
        return self.matching.by_image[image]


def show_results(path: Path, files: SplitFiles) -> Shown:
    """The results in a file, on the dataset they were made for.

    Raises:
        DfineError: They cannot be read, or are not for this data.
        CheckError: Their scores or boxes are not what COCO says they are.
    """
    truth = read_truth(files.json)
    return _on_dataset(truth, read_checked(path, truth), files)


def show_detector(
    detector: Detector, files: SplitFiles, *, batch: int, workers: int, on_progress: Progress | None = None
) -> Shown:
    """What a detector finds on a dataset; the arguments and errors are those of ``score_detector``."""
    scored = score_detector(detector, files, batch=batch, workers=workers, on_progress=on_progress)
    truth, results = read_truth(files.json), to_columns(scored.results)
    known = np.isin(results.category_ids, truth.category_ids)
    shown = _on_dataset(truth, results.where(known), files)
    spread = _spread(list(scored.detections.values()))
    return shown._replace(
        operating_point=detector.operating_point,
        model_classes=detector.classes.names,
        spread=None if spread is None else spread[known][shown.matching.detections.rows],
    )


def show_pictures(
    detector: Detector, place: Path, *, batch: int, workers: int, on_progress: Progress | None = None
) -> Shown:
    """What a detector finds on images without ground truth; those that cannot be read are left out.

    Args:
        detector: What finds objects.
        place: An image, or a folder of images.
        batch: Images in one pass.
        workers: Threads that read images; 0 reads them here.
        on_progress: Told after each pass how far it is.

    Raises:
        UsageError: There is no image.
        CheckError: The only image, or none of several, can be read.
    """
    folder, names = find_pictures(place)
    if len(names) == 1:
        read_image(folder / names[0], detector.exif)  # says which one, and why
    categories = [
        {"id": i, "name": name}
        for i, name in zip(detector.classes.category_ids, detector.classes.names, strict=True)
    ]
    none = np.zeros(0, np.int64)
    file = CocoFile(
        folder / "images",
        tuple(CocoImage(i, name, 0, 0) for i, name in enumerate(names)),
        Annotations(none, none, none, np.zeros((0, 4)), none.astype(np.bool_)),
        tuple(categories),
    )
    dataset = CocoDataset(file, folder, detector.classes, exif=detector.exif, on_bad_image="skip")
    found = dict(detect_all(detector, dataset, batch=batch, workers=workers, on_progress=on_progress))
    results = [r for i, d in found.items() for r in to_results(i, d, detector.classes.category_ids)]
    truth = read_truth(
        {
            "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
            "annotations": [],
            "categories": categories,
        }
    )
    matching = match_results(truth, to_columns(results), MAX_DETS)
    spread = _spread(list(found.values()))
    return Shown(
        matching,
        ImageFolder(names, folder, folder),
        tuple(names),
        judged=False,
        spread=None if spread is None else spread[matching.detections.rows],
        operating_point=detector.operating_point,
        model_classes=detector.classes.names,
    )


def find_pictures(place: Path) -> tuple[Path, list[str]]:
    """A folder and the names of its images, or of the one that is given.

    Raises:
        UsageError: There is none.
    """
    if place.is_file():
        return place.parent, [place.name]
    if not place.is_dir():
        raise UsageError(f"{place}: no such file or folder", "give an image, a folder of images or a dataset")
    names = sorted(
        p.relative_to(place).as_posix()
        for p in place.rglob("*")
        if p.suffix.lower() in PICTURES and p.is_file()
    )
    if not names:
        raise UsageError(f"{place}: no images in this folder", f"known: {', '.join(PICTURES)}")
    return place, names


def require_readable(read: int, images: int) -> None:
    """Refuse to call it a success that nothing can be seen.

    Raises:
        DfineError: None of the images could be read.
    """
    if not read:
        raise DfineError(f"none of the {images} images can be read", "say with --images where they are")


def best_threshold(shown: Shown) -> tuple[float, str]:
    """The score from which detections are shown, and why it is this one."""
    stored = stored_threshold(shown.operating_point)
    best = sweep(shown.matching).best if shown.judged and stored is None else None
    return (best.threshold, "the best F1 on this data") if best else stored or USUAL


def stored_threshold(point: dict[str, Any] | None) -> tuple[float, str] | None:
    """The threshold of an operating point that an evaluation stored with a model; None without."""
    return (float(point["threshold"]), "stored with the model by an evaluation") if point else None


def class_thresholds(shown: Shown, overall: float) -> NDArray[np.float64]:
    """[K] the score from which detections of each class are shown: that with its best F1, else ``overall``."""
    names = shown.matching.truth.names
    if shown.operating_point is not None:
        return stored_class_thresholds(shown.operating_point, shown.model_classes, names, overall)
    best = sweep(shown.matching).class_best if shown.judged else (None,) * len(names)
    return np.array([point.threshold if point else overall for point in best])


def stored_class_thresholds(
    point: dict[str, Any] | None, model_classes: Sequence[str], names: Sequence[str], overall: float
) -> NDArray[np.float64]:
    """[K] thresholds of classes that are stored with a model, ``overall`` for those without one.

    Args:
        point: The operating point, if there is one.
        model_classes: Names of the classes of the model.
        names: [K] the classes that are asked for.
        overall: The threshold of all classes together.
    """
    stored = (point or {}).get("classes") or ()
    known = dict(zip(model_classes, stored, strict=True)) if len(stored) == len(model_classes) else {}
    return np.array([overall if known.get(name) is None else known[name] for name in names], np.float64)


def _spread(found: Sequence[Detections]) -> NDArray[np.float32] | None:
    """[N, 4] of all images one after the other; None where a detector does not tell."""
    known = [image.spread for image in found if image.spread is not None]
    return np.concatenate(known) if known and len(known) == len(found) else None


def _on_dataset(truth: Truth, results: Results, files: SplitFiles) -> Shown:
    images = ImageFolder(truth.file_names, files.images, files.json.parent)
    return Shown(match_results(truth, results, MAX_DETS), images, truth.file_names, True)
