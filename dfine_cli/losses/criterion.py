"""The criterion: every head of a training step times every loss term that applies to it."""

from collections.abc import Sequence

from torch import Tensor

from dfine_cli.config.schema import Loss
from dfine_cli.errors import DfineError
from dfine_cli.losses.boxes import generalized_iou, l1
from dfine_cli.losses.classification import CLASSIFICATION
from dfine_cli.losses.distribution import (
    decoupled_distillation,
    distillation_shares,
    fine_grained_localization,
    target_bins,
)
from dfine_cli.losses.heads import HeadGroup, group_heads
from dfine_cli.losses.matcher import Costs
from dfine_cli.model.fdr import weighting
from dfine_cli.types import ModelOutput, Target


class Criterion:
    """Matching and all loss terms of D-FINE.

    A non-finite term is returned as it is.
    # published: NaN becomes 0 in each term, which hides it and stops its gradient

    Args:
        classification: Key of ``CLASSIFICATION``.
        alpha: Weight of negatives in the classification loss.
        gamma: Its focusing exponent.
        weights: Weight of each term by name: the classification loss by its key, bbox, giou, fgl, ddf.
        costs: Weights of the matching costs.
        temperature: T of the self-distillation.
        num_classes: C, classes of the heads.
        reg_max: R, the last bin.
        up: a of the paper's W(n).
        reg_scale: 1 / c of the paper's W(n).
    """

    def __init__(
        self,
        *,
        classification: str,
        alpha: float,
        gamma: float,
        weights: dict[str, float],
        costs: Costs,
        temperature: float,
        num_classes: int,
        reg_max: int,
        up: float,
        reg_scale: float,
    ) -> None:
        self.classification = classification
        self.alpha = alpha
        self.gamma = gamma
        self.weights = weights
        self.costs = costs
        self.temperature = temperature
        self.num_classes = num_classes
        self.reg_scale = reg_scale
        self.bin_values = weighting(reg_max, up, reg_scale)

    def __call__(self, outputs: ModelOutput, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Weighted terms by name, ``loss_<term><suffix>``: 10 L + 8 with denoising. The loss is their sum.

        In float32, or float64 for float64 outputs. Images without objects are fine.

        Raises:
            DfineError: The heads have another number of classes.
        """
        found = outputs.final.logits.shape[-1]
        if found != self.num_classes:
            raise DfineError(f"the model has {found} classes, the criterion {self.num_classes}")
        matching, denoising = group_heads(outputs, targets, self.costs)
        # published: denoising layers are mixed by the counts of the matching queries, too
        shares = distillation_shares(len(matching.box_pairs.rows), len(matching.references))
        losses = self._terms(matching, shares)
        if denoising is not None:
            losses |= self._terms(denoising, shares)
            # The last layer is its own teacher; the published term of that name is 0.
            last = denoising.suffixes[len(denoising.corners) - 1]
            losses[f"loss_ddf{last}"] = losses[f"loss_fgl{last}"].new_zeros(())
        return losses

    def _terms(self, group: HeadGroup, shares: tuple[float, float]) -> dict[str, Tensor]:
        """Every term of every head of a group."""
        self.bin_values = self.bin_values.to(group.references)
        classify = CLASSIFICATION[self.classification]
        pairs = group.box_pairs
        bins = target_bins(group.references, pairs, self.bin_values, self.reg_scale)
        teacher_logits = group.logits[len(group.corners) - 1].detach()
        terms = {
            self.classification: classify(group.logits, group.class_pairs, self.alpha, self.gamma),
            "bbox": l1(pairs),
            "giou": generalized_iou(pairs),
            "fgl": fine_grained_localization(group.corners, bins, pairs),
            "ddf": decoupled_distillation(group.corners, teacher_logits, pairs, shares, self.temperature),
        }
        return {
            f"loss_{name}{suffix}": loss
            for name, losses in terms.items()
            # Distributions exist in the first heads only, and the last layer has no teacher.
            for suffix, loss in zip(group.suffixes, (losses * self.weights[name]).unbind(), strict=False)
        }


def build_criterion(loss: Loss, *, num_classes: int, reg_max: int, up: float, reg_scale: float) -> Criterion:
    """The criterion of a recipe.

    Args:
        loss: Section of the recipe.
        num_classes: C, classes of the model.
        reg_max: R, the last bin of the model's distributions.
        up: a of the model's W(n).
        reg_scale: 1 / c of the model's W(n).
    """
    return Criterion(
        classification=loss.classification,
        alpha=loss.alpha,
        gamma=loss.gamma,
        weights={
            loss.classification: loss.class_weight,
            "bbox": loss.bbox_weight,
            "giou": loss.giou_weight,
            "fgl": loss.fgl_weight,
            "ddf": loss.ddf_weight,
        },
        costs=Costs(loss.cost_class, loss.cost_bbox, loss.cost_giou),
        temperature=loss.temperature,
        num_classes=num_classes,
        reg_max=reg_max,
        up=up,
        reg_scale=reg_scale,
    )
