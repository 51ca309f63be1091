"""A detector over a dataset, and its detections as COCO results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dfine_cli.backends.detector import Detector
from dfine_cli.data.coco import CocoDataset
from dfine_cli.data.eval_loader import EvalLoader
from dfine_cli.types import Detections, JsonDict
from dfine_cli.whole_file import write_whole

Progress = Callable[[int, int], None]
"""Called with images done and images in all."""


def predict(
    detector: Detector,
    dataset: CocoDataset,
    *,
    batch: int,
    workers: int,
    on_progress: Progress | None = None,
) -> list[JsonDict]:
    """All detections on ``dataset`` as COCO results, with the category ids of ``detector.classes``.

    Args:
        detector: What finds objects.
        dataset: The images; its annotations are not used.
        batch: Images in one pass.
        workers: Threads that read images; 0 reads them here.
        on_progress: Told after each pass how far it is.
    """
    results: list[JsonDict] = []
    for image_id, detections in detect_all(
        detector, dataset, batch=batch, workers=workers, on_progress=on_progress
    ):
        results += to_results(image_id, detections, detector.classes.category_ids)
    return results


def detect_all(
    detector: Detector,
    dataset: CocoDataset,
    *,
    batch: int,
    workers: int,
    on_progress: Progress | None = None,
) -> Iterator[tuple[int, Detections]]:
    """Image id and detections of each image, once per image; the arguments are those of ``predict``."""
    loader = EvalLoader(dataset, input_size=detector.input_size, batch=batch, workers=workers)
    seen: set[int] = set()  # a dataset that skips an unreadable image gives its neighbour in its place
    done = 0
    for images, image_ids, sizes in loader:
        for image_id, found in zip(image_ids, detector.detect(images, sizes), strict=True):
            if image_id not in seen:
                seen.add(image_id)
                yield image_id, found
        done += len(image_ids)
        if on_progress:
            on_progress(done, len(dataset))


def to_results(image_id: int, detections: Detections, category_ids: Sequence[int]) -> list[JsonDict]:
    """Detections of one image as COCO results: boxes xywh in pixels, category ids of the annotation file."""
    boxes_xywh = np.array(detections.boxes)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    return [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for label, box, score in zip(
            detections.labels.tolist(), boxes_xywh.tolist(), detections.scores.tolist(), strict=True
        )
    ]


def write_results(path: Path, results: Sequence[JsonDict]) -> None:
    """Write COCO results as JSON; the file appears whole or not at all.

    Raises:
        DfineError: It cannot be written.
    """
    write_whole(path, json.dumps(results).encode(), "--out")
