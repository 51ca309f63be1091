"""Which parameter gets which learning rate and weight decay: groups as named predicates, and the optimizers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.optim import AdamW

from dfine_cli.config.schema import Optim
from dfine_cli.training.muon import MATRIX, Muon, is_matrix

Predicate = Callable[[str, nn.Parameter], bool]


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate and a decay.

    Args:
        name: What the group holds.
        holds: Whether a parameter belongs here; the first group that holds it gets it.
        backbone_lr: Use the backbone's learning rate instead of the base one.
        decay: Whether weight decay applies.
        matrix: Whether Muon steps it, where the recipe says so.
    """

    name: str
    holds: Predicate
    backbone_lr: bool = False
    decay: bool = True
    matrix: bool = False


def _in_backbone(name: str, _: nn.Parameter) -> bool:
    return name.startswith("backbone.")


def _has_norm(name: str, _: nn.Parameter) -> bool:
    return "norm" in name


def _has_norm_or_bias(name: str, _: nn.Parameter) -> bool:
    return "norm" in name or "bias" in name


def _is_vector(_: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim <= 1


def _everything(_: str, __: nn.Parameter) -> bool:
    return True


# published: the patterns meant to free the backbone's norms from decay match none of them ("norm|bn" is not
# grouped, and the backbone says ".bn."), so N, S and M decay BatchNorm and affines of the backbone, the group
# made for them is empty, and L and X (whose backbone norms are frozen) decay every bias outside of norms.
PUBLISHED_SMALL = (
    Group("backbone", _in_backbone, backbone_lr=True),
    Group("backbone norms", lambda name, p: False, backbone_lr=True, decay=False),
    Group("norms and biases", _has_norm_or_bias, decay=False),
    Group("rest", _everything),
)
PUBLISHED_LARGE = (
    Group("backbone", _in_backbone, backbone_lr=True),
    Group("norms", _has_norm, decay=False),
    Group("rest", _everything),
)
CLEAN = (
    Group(
        "backbone norms and biases",
        lambda n, p: _in_backbone(n, p) and _is_vector(n, p),
        backbone_lr=True,
        decay=False,
    ),
    Group("backbone", _in_backbone, backbone_lr=True),
    Group("norms and biases", _is_vector, decay=False),
    Group("rest", _everything),
)
OBJECTIVES = Group("objectives", lambda name, p: False)
"""Parameters that objectives bring along."""
GROUPS: dict[str, dict[str, tuple[Group, ...]]] = {
    "published": {
        **dict.fromkeys("nsm", PUBLISHED_SMALL),
        **dict.fromkeys("lx", PUBLISHED_LARGE),
    },
    "clean": dict.fromkeys("nsmlx", CLEAN),
}


def assign(model: nn.Module, groups: Iterable[Group]) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters of each group, in the order of the groups; a group may be empty."""
    groups = list(groups)
    members: dict[str, list[nn.Parameter]] = {g.name: [] for g in groups}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            home = next(g for g in groups if g.holds(name, parameter))
            members[home.name].append(parameter)
    return members


def lr_scale(optim: Optim) -> float:
    """Factor on the learning rates for the effective batch: the square root rule of adaptive optimisers.

    The recipe's rates are made for ``nominal_batch``; a smaller ``batch`` is accumulated up to it, so only
    what accumulation cannot reach is scaled. 1 where the recipe names no nominal batch.
    """
    return math.sqrt(effective_batch(optim) / (optim.nominal_batch or optim.batch))


def accumulation(optim: Optim) -> int:
    """Forward passes for one optimizer step."""
    return max(1, round((optim.nominal_batch or optim.batch) / optim.batch))


def effective_batch(optim: Optim) -> int:
    """Images that one optimizer step sees."""
    return optim.batch * accumulation(optim)


def build_optimizer(model: nn.Module, optim: Optim, size: str, more: Sequence[nn.Parameter] = ()) -> AdamW:
    """The recipe's optimizer over its groups; each group carries its peak rate as ``peak_lr``.

    Args:
        model: What is trained.
        optim: Rates, decay and which groups.
        size: Model size.
        more: Parameters beside the model's, of objectives; a group of their own at the base rate.
    """
    groups, scale = GROUPS[optim.groups][size], lr_scale(optim)
    if optim.kind == "muon":
        groups = _with_matrices_apart(groups)
    members = assign(model, groups)
    if more:
        groups += (OBJECTIVES,)
        members[OBJECTIVES.name] = list(more)
    options = [
        {
            "params": members[g.name],
            "name": g.name,
            "peak_lr": scale * (optim.backbone_lr if g.backbone_lr else optim.lr),
            "lr": scale * (optim.backbone_lr if g.backbone_lr else optim.lr),
            "weight_decay": optim.weight_decay if g.decay else 0.0,
            MATRIX: g.matrix,
        }
        for g in groups
    ]
    return OPTIMIZERS[optim.kind](options, optim.betas)


def _adamw(groups: list[dict[str, Any]], betas: tuple[float, float]) -> AdamW:
    return AdamW(groups, betas=betas, fused=True)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], tuple[float, float]], AdamW]] = {
    "adamw": _adamw,
    "muon": Muon,
}
"""What ``optim.kind`` stands for."""


def _with_matrices_apart(groups: Iterable[Group]) -> tuple[Group, ...]:
    """Before every group one that takes the matrices in it."""
    return tuple(part for group in groups for part in (_matrices_of(group), group))


def _matrices_of(group: Group) -> Group:
    def holds(name: str, parameter: nn.Parameter) -> bool:
        return is_matrix(name, parameter) and group.holds(name, parameter)

    return replace(group, name=f"{group.name}, matrices", holds=holds, matrix=True)
