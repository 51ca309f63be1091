"""What carrying heads over by class name is worth: AP before the first step."""

import json
from pathlib import Path

from dfine_cli.backends.torch_backend import TorchDetector
from dfine_cli.config.schema import Recipe
from dfine_cli.data.synthetic import write_dataset
from dfine_cli.evaluation.coco_eval import evaluate
from dfine_cli.evaluation.predict import predict
from dfine_cli.training.monitor import Monitor
from dfine_cli.training.run import set_up, train

RENAMED = {"disc": "Discs", "square": "SQUARE", "triangle": "gadget", "star": "widget", "cross": "thing"}
SHARED = ("Discs", "SQUARE")


def recipe_for(json_file: Path, images: Path, runs: Path, **start: str) -> Recipe:
    split = {f"{name}_json": json_file for name in ("train", "val")} | {
        f"{name}_images": images for name in ("train", "val")
    }
    return Recipe.model_validate(
        {
            "data": {**split, "input_size": (96, 96), "workers": 0},
            "model": {"num_queries": 10, "num_denoising": 30},
            "optim": {"lr": 2e-3, "backbone_lr": 2e-3, "batch": 4, "groups": "clean", "clip_norm": 1.0},
            "schedule": {"epochs": 60, "curve": "cosine", "warmup_share": 0.1, "refine_from": 0.0},
            "ema": {"share": 0.1},
            "augment": {"flip": 0.0},
            "evaluation": {"every": 60},
            "run": {"folder": runs, "device": "cpu"},
            "start": start,
        }
    )  # fmt: skip


def ap_before_the_first_step(recipe: Recipe) -> dict[str, float]:
    """AP of each class."""
    setup = set_up(recipe, Monitor())
    setup.loader.close()
    assert setup.data.val is not None and setup.data.val_json is not None
    detector = TorchDetector(setup.state.ema.model, setup.data.classes, (96, 96), setup.plan.device)
    result = evaluate(setup.data.val_json, predict(detector, setup.data.val, batch=4, workers=0))
    return {c.name: c.ap for c in result.classes if c.ap is not None}


def test_shared_classes_are_found_before_the_first_step(tmp_path: Path) -> None:
    """Four pictures learned by heart, then the same pictures with other categories, two of which keep their name."""
    write_dataset(tmp_path, train=4, val=1, size=(96, 96), seed=1)
    theirs = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(theirs.read_text())
    order = {c["id"]: 50 - c["id"] for c in content["categories"]}
    content["categories"] = [
        {"id": order[c["id"]], "name": RENAMED[c["name"]]} for c in content["categories"]
    ]
    for annotation in content["annotations"]:
        annotation["category_id"] = order[annotation["category_id"]]
    ours = tmp_path / "ours.json"
    ours.write_text(json.dumps(content))
    trained = train(recipe_for(theirs, tmp_path / "train", tmp_path / "runs"))
    assert trained.best_row["ap"] > 0.1, "the pictures were not learned"
    weights = str(trained.folder)
    carried = ap_before_the_first_step(
        recipe_for(ours, tmp_path / "train", tmp_path / "runs", weights=weights)
    )
    fresh = ap_before_the_first_step(
        recipe_for(ours, tmp_path / "train", tmp_path / "runs", weights=weights, head="fresh")
    )
    assert set(carried) == set(RENAMED.values())
    assert all(carried[name] > 0.2 for name in SHARED), carried
    # A fresh row scores at random, which may by luck rank one class well, but hardly both.
    assert sum(fresh[name] for name in SHARED) < 0.5 * sum(carried[name] for name in SHARED), fresh
