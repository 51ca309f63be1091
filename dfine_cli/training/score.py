"""Scoring a state on the validation set: averaged and raw weights, the better named."""

import math

import torch

from dfine_cli.backends.torch_backend import TorchDetector
from dfine_cli.config.schema import Recipe
from dfine_cli.evaluation.coco_eval import evaluate
from dfine_cli.evaluation.predict import predict
from dfine_cli.model.dfine import DFINE
from dfine_cli.training.dataset import TrainingData
from dfine_cli.training.guard import diverged
from dfine_cli.training.interrupt import StopRequest
from dfine_cli.training.monitor import Monitor, Row
from dfine_cli.training.state import TrainState


class Scorer:
    """COCO AP of a state.

    Args:
        recipe: Which weights, and how many images at once.
        data: The validation set; None in it gives empty scores.
        device: Where the model runs.
        monitor: Told about the progress.
        stop: Read after each batch of images.
    """

    def __init__(
        self, recipe: Recipe, data: TrainingData, device: torch.device, monitor: Monitor, stop: StopRequest
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.device = device
        self.monitor = monitor
        self.stop = stop

    def __call__(self, state: TrainState) -> Row:
        """``ap`` and ``ap50`` of the better weights, ``ap_ema``, ``ap_raw`` …, and sets ``state.best_weights``.

        Raises:
            DfineError: What the network finds is no longer finite.
            Stop: Somebody asked the run to end; the state is as it was.
        """
        if self.data.val is None:
            return {}
        epoch = state.counters.epoch + 1
        scores = {"ema": self._score(state.ema.model, epoch)}
        if self.recipe.evaluation.weights == "both":
            scores["model"] = self._score(state.model, epoch)
        state.best_weights = max(scores, key=lambda which: scores[which]["AP"])
        row: Row = {"weights": state.best_weights}
        for which, numbers in scores.items():
            suffix = "raw" if which == "model" else which
            row |= {f"ap_{suffix}": numbers["AP"], f"ap50_{suffix}": numbers["AP50"]}
        best = scores[state.best_weights]
        return {"ap": best["AP"], "ap50": best["AP50"], "ap75": best["AP75"], **row}

    def _score(self, model: DFINE, epoch: int) -> dict[str, float]:
        assert self.data.val is not None and self.data.val_json is not None
        detector = TorchDetector(model, self.data.classes, self.recipe.data.input_size, self.device)
        results = predict(
            detector,
            self.data.val,
            batch=self.recipe.evaluation.batch,
            workers=self.recipe.data.workers,
            on_progress=self._advance,
        )
        if not all(math.isfinite(sum(result["bbox"], result["score"])) for result in results):
            raise diverged(epoch, "boxes and scores", self.recipe.optim.lr)
        return evaluate(self.data.val_json, results).numbers

    def _advance(self, done: int, total: int) -> None:
        self.monitor.evaluating(done, total)
        self.stop.check()
