"""Small scenes with known answers."""

import numpy as np

from dfine_cli.evaluation.matching import match_results
from dfine_cli.evaluation.results import to_columns
from dfine_cli.evaluation.truth import read_truth

CAT, DOG = 3, 20
BOX = (10, 10, 50, 50)
FAR = (120, 120, 40, 40)


def truth(boxes, *, images=(1,), categories=((CAT, "cat"), (DOG, "dog"))):
    """Annotations from (image, category, xywh, crowd) rows."""
    return {
        "images": [{"id": i, "width": 200, "height": 200, "file_name": f"{i}.png"} for i in images],
        "categories": [{"id": c, "name": name} for c, name in categories],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": list(b), "area": b[2] * b[3], "iscrowd": crowd}
            for n, (i, c, b, crowd) in enumerate(boxes, start=101)
        ],
    }


def result(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def match(content, results, max_dets=100):
    return match_results(read_truth(content), to_columns(results), max_dets)


def noisy(content, seed, *, shift=3.0, misses=0.2, extra=20):
    """Results that a mediocre detector might give."""
    rng = np.random.default_rng(seed)
    found = [
        result(a["image_id"], a["category_id"], np.array(a["bbox"]) + rng.normal(0, shift, 4), s)
        for a, s in zip(content["annotations"], rng.uniform(0.3, 1, len(content["annotations"])), strict=True)
        if rng.random() > misses
    ]
    ids = [image["id"] for image in content["images"]]
    for _ in range(extra):
        found.append(
            result(int(rng.choice(ids)), int(rng.choice((CAT, DOG))), rng.uniform(5, 60, 4), rng.random() / 2)
        )
    return found


def crowd_of_images(count=20, seed=0):
    """Annotations of ``count`` images with two to five objects each."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        for _ in range(int(rng.integers(2, 6))):
            box = (*rng.uniform(0, 120, 2), *rng.uniform(20, 70, 2))
            rows.append((i, int(rng.choice((CAT, DOG))), tuple(float(v) for v in box), 0))
    return truth(rows, images=range(count))
