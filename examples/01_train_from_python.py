"""Train a detector from Python: the same recipe, without the command line.

python examples/01_train_from_python.py DATA_FOLDER
"""

import sys
from pathlib import Path

from dfine_cli.config.load import load_recipe
from dfine_cli.data.layout import find_layout
from dfine_cli.training.monitor import Monitor, Row
from dfine_cli.training.run import train


class Print(Monitor):
    """Prints a line for each epoch."""

    def epoch(self, row: Row) -> None:
        """Called after each epoch with its numbers."""
        print(f"epoch {row['epoch']}: loss {row['loss']:.2f}, AP {row['ap']:.3f}")


def main(data: Path, *settings: str) -> Path:
    """Train ``scratch/n`` on ``data``; returns the folder of the run."""
    layout = find_layout(data)
    paths = [
        f"data.{name}_{key}={path}"
        for name in ("train", "val")
        for key, path in layout.require(name)._asdict().items()
    ]
    recipe = load_recipe("scratch/n", [*paths, *settings]).recipe
    return train(recipe, Print()).folder


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), *sys.argv[2:]))
