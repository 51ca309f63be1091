"""The folder of a run: recipe, environment, metrics and weights; never written over."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

from dfine_cli import __version__
from dfine_cli.config.schema import Recipe
from dfine_cli.config.write import write_recipe
from dfine_cli.errors import CheckError, DfineError, cannot_write
from dfine_cli.strict_json import dumps
from dfine_cli.training.monitor import Row
from dfine_cli.whole_file import whole_file


class RunDir:
    """``runs/<name>[-2]/`` with recipe.yaml, env.json, metrics.jsonl, curves.png and weights/.

    Args:
        path: The folder, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.weights = path / "weights"

    @classmethod
    def create(cls, recipe: Recipe) -> "RunDir":
        """Make a new folder; a name that is taken gets -2, -3 and so on.

        Raises:
            DfineError: The folder cannot be written.
        """
        try:
            recipe.run.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(recipe.run.folder, error, "choose another place with run.folder") from error
        number = 1
        while True:
            path = recipe.run.folder / (recipe.name if number == 1 else f"{recipe.name}-{number}")
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
            except OSError as error:
                raise cannot_write(path, error, "choose another place with run.folder") from error
        run = cls(path)
        try:
            run.weights.mkdir()
            run.keep_recipe(recipe)
            (path / "env.json").write_text(json.dumps(environment(), indent=2) + "\n")
        except (OSError, DfineError) as error:
            shutil.rmtree(path)
            raise DfineError(f"{path}: nothing can be written there: {error}", "free some space") from error
        return run

    def keep_recipe(self, recipe: Recipe) -> None:
        """Write the recipe of the run; again where a resumed run was given other values."""
        write_recipe(recipe, self.path / "recipe.yaml")

    @property
    def last(self) -> Path:
        """Checkpoint to resume from."""
        return self.weights / "last.pt"

    @property
    def best(self) -> Path:
        """Weights of the best epoch."""
        return self.weights / "best.pt"

    @property
    def stage_one(self) -> Path:
        """Full checkpoint of the best epoch before the last phase (two-stage recipes)."""
        return self.weights / "stage1.pt"

    @property
    def metrics(self) -> Path:
        """One JSON object per epoch."""
        return self.path / "metrics.jsonl"

    def append(self, row: Row) -> None:
        """Add an epoch to the metrics."""
        with self.metrics.open("a") as file:
            file.write(dumps(row) + "\n")

    def rows(self) -> list[Row]:
        """All epochs written so far, counted from 1; a last line that a crash has cut off is left out.

        Raises:
            CheckError: Another line is damaged.
        """
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text().splitlines()
        rows: list[Row] = []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                rows.append({**row, "epoch": int(row["epoch"])})
            except (ValueError, TypeError, KeyError) as error:
                if number < len(lines):
                    raise CheckError(
                        f"{self.metrics}:{number}: damaged: {error!r}", "remove that line"
                    ) from error
        if rows and rows[0]["epoch"] == 0:  # older runs counted from 0
            rows = [{**row, "epoch": row["epoch"] + 1} for row in rows]
        return rows

    def keep_rows(self, rows: Iterable[Row]) -> None:
        """Write the metrics anew, for a resumed run that goes back to an earlier epoch."""
        with whole_file(self.metrics) as part:
            part.write_text("".join(dumps(r) + "\n" for r in rows))


def environment() -> dict[str, object]:
    """Versions, device and command line, stored with every run."""
    import albumentations
    import cv2
    import numpy as np

    cuda = torch.cuda.is_available()
    return {
        "command": sys.argv,
        "dfine": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "albumentations": albumentations.__version__,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
    }
