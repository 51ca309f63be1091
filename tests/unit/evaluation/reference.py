"""pycocotools itself, and random problems that are hard for it: ties, crowds, empty images, odd sizes."""

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def pycocotools(truth, results, max_dets=(1, 10, 100)):
    """COCOeval after ``accumulate`` and the twelve numbers."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt, dt = COCO(), COCO()
        gt.dataset = copy.deepcopy(truth)
        gt.createIndex()
        dt.dataset = {
            **truth,
            "annotations": [
                {**r, "id": n, "area": r["bbox"][2] * r["bbox"][3]} for n, r in enumerate(results, 1)
            ],
        }
        dt.createIndex()
        run = COCOeval(gt, dt, "bbox")
        run.params.maxDets = list(max_dets)
        run.evaluate()
        run.accumulate()
        if tuple(max_dets) == (1, 10, 100):
            run.summarize()
    return run


def random_problem(seed, images=6, classes=4, objects=30, detections=120):
    """Annotations and results on a coarse grid, so that overlaps and scores are often equal."""
    rng = np.random.default_rng(seed)
    annotations = []
    for n in range(objects):
        box = rng.integers(0, 20, 4) * np.array((9, 9, 7, 7)) + (0, 0, 5, 5)
        annotations.append(
            {
                "id": n + 1,
                "image_id": int(rng.integers(0, images - 1)) * 3 + 1,  # the last image stays empty
                "category_id": int(rng.integers(0, classes - 1)) * 10 + 7,  # the last class too
                "bbox": box.tolist(),
                "area": float(box[2] * box[3] * rng.choice((0.4, 1))),
                "iscrowd": int(rng.random() < 0.2),
            }
        )
    results = []
    for _ in range(detections):
        like = annotations[rng.integers(objects)]
        box = np.array(like["bbox"]) + rng.choice((0, 0, 0, 3, 9), 4)
        own = rng.random() < 0.7
        results.append(
            {
                "image_id": like["image_id"] if own else int(rng.integers(images)) * 3 + 1,
                "category_id": like["category_id"] if own else int(rng.integers(classes)) * 10 + 7,
                "bbox": [int(v) for v in box],
                "score": float(rng.integers(1, 9) / 8),
            }
        )
    truth = {
        "images": [{"id": i * 3 + 1, "width": 400, "height": 400} for i in rng.permutation(images).tolist()],
        "categories": [{"id": c * 10 + 7, "name": f"class {c}"} for c in rng.permutation(classes).tolist()],
        "annotations": annotations,
    }
    return truth, results
