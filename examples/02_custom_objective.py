"""Train with a loss of your own beside D-FINE's: here the encoder also learns to count.

python examples/02_custom_objective.py DATA_FOLDER
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn, tensor
from torch.nn import functional as F

from dfine_cli.config.load import load_recipe
from dfine_cli.data.layout import find_layout
from dfine_cli.model.sizes import SIZES
from dfine_cli.training.objective import Objective
from dfine_cli.training.run import RunResult, train
from dfine_cli.types import Batch, ModelOutput


class Counting(Objective):
    """Predicts from the coarsest feature map how many objects an image has.

    Args:
        width: Channels of the map.
        weight: Weight of the loss term.
    """

    def __init__(self, width: int, weight: float = 1.0) -> None:
        self.head = nn.Linear(width, 1)
        self.weight = weight

    def trainable(self) -> Iterable[nn.Parameter]:
        """The head is trained with the model, and kept in checkpoints."""
        return self.head.parameters()

    def losses(self, batch: Batch, outputs: ModelOutput) -> dict[str, Tensor]:
        """One term, which stands with the others in ``metrics.jsonl``; its gradient reaches the encoder."""
        pooled = outputs.features.aifi.float().mean((2, 3))
        counts = tensor([float(len(target.labels)) for target in batch.targets], device=pooled.device)
        predicted = F.linear(pooled, self.head.weight, self.head.bias)[:, 0]
        return {"loss_count": self.weight * F.smooth_l1_loss(predicted, counts.log1p())}


def main(data: Path, *settings: str) -> RunResult:
    """Train ``finetune/n`` on ``data`` with the objective."""
    layout = find_layout(data)
    paths = [
        f"data.{name}_{key}={path}"
        for name in ("train", "val")
        for key, path in layout.require(name)._asdict().items()
    ]
    recipe = load_recipe("finetune/n", [*paths, *settings]).recipe
    return train(recipe, objectives=[Counting(SIZES[recipe.size].hidden)])


if __name__ == "__main__":
    result = main(Path(sys.argv[1]), *sys.argv[2:])
    print(f"{result.folder}: loss_count {result.rows[-1]['terms']['loss_count']:.3f}")
