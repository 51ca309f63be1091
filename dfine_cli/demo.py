"""The whole tour on a drawn dataset: survey, training, evaluation, a sheet of pictures."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfine_cli.backends.detector import open_detector
from dfine_cli.backends.torch_backend import choose_device
from dfine_cli.config.load import Override, load_recipe
from dfine_cli.data.synthetic import write_dataset
from dfine_cli.evaluation.score import score_detector
from dfine_cli.survey import survey
from dfine_cli.training.monitor import Monitor
from dfine_cli.training.run import train
from dfine_cli.visualize.sheet import sheet_of

PICTURES = 8
"""Validation images on the sheet."""


@dataclass(frozen=True)
class DemoResult:
    """What the tour leaves."""

    data: Path
    run: Path
    sheet: Path
    numbers: dict[str, float]
    """COCO numbers on the validation set."""
    seconds: float
    """Of training."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {key: str(v) if isinstance(v, Path) else v for key, v in asdict(self).items()}


def run_demo(
    out: Path, *, images: int, side: int, epochs: int, seed: int, device: str, monitor: Monitor
) -> DemoResult:
    """Draw ``images`` training pictures, train D-FINE-N on them, and look at the result.

    Args:
        out: Where data, config and run go.
        images: Training pictures; a quarter as many are drawn for validation.
        side: Height and width of the pictures in pixels, a multiple of 32.
        epochs: Passes over the data.
        seed: Seed of pictures and training.
        device: Where to train.
        monitor: Who listens.

    Raises:
        UsageError: The pictures have no legal size; nothing is written.
        MissingError: There is no such device; nothing is written.
    """
    load_recipe("finetune/n", [Override(f"data.input_size=[{side}, {side}]", "--size")])
    choose_device(device)
    data = out / "data"
    write_dataset(data, train=images, val=max(8, images // 4), size=(side, side), seed=seed)
    found = survey(
        data,
        out / "run.yaml",
        overrides=[
            f"data.input_size=[{side}, {side}]",
            f"schedule.epochs={epochs}",
            f"run.seed={seed}",
            f"run.device={device}",
            f"run.folder={out / 'runs'}",
            "name=demo",
            "evaluation.every=4",
            "optim.batch=8",
            "optim.nominal_batch=8",
            "model.num_denoising=100",  # scenes hold few objects
            "augment.mosaic=0.3",
        ],
        force=True,
    )
    started = time.perf_counter()
    result = train(found.resolved.recipe, monitor)
    seconds = time.perf_counter() - started
    detector = open_detector(result.folder, device)
    scored = score_detector(detector, found.splits["val"], batch=16, workers=0)
    sheet = result.folder / "pictures.png"
    sheet_of(scored.dataset, scored.detections, detector.classes.names, sheet, PICTURES)
    return DemoResult(data, result.folder, sheet, scored.result.numbers, seconds)
