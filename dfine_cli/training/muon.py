"""Muon for weight matrices, AdamW for all else, as one optimizer.

Muon (Jordan et al., 2024) keeps the direction of a momentum step on a matrix and makes all its singular values
about equal, so that rare directions are learned as fast as frequent ones. Steps are scaled so that their root mean
square is the learning rate, whatever the shape (after Liu et al., arXiv 2502.16982): the rates of AdamW, whose steps
are at most that large, can stay, and one rate serves matrices and all else.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

MATRIX = "matrix"
"""Flag of a parameter group that Muon steps; the others are AdamW's."""
MOMENTUM = 0.95
"""Share of the old momentum that is kept."""
SMALLEST_SIDE = 16
"""Matrices with a shorter side have too few singular values to be worth it, such as depthwise kernels."""
# Jordan's quintic, which pulls singular values to between about 0.7 and 1.2 in five rounds.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon steps a parameter; kernels count as [outputs, inputs * height * width].

    What has a row for each class is no map between features and stays with AdamW, whatever the number of classes.
    """
    of_classes = "score_head" in name or "class_embed" in name
    return (
        not of_classes and parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= SMALLEST_SIDE
    )


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest matrices with about equal singular values, by Newton-Schulz iteration.

    Args:
        matrices: [N, m, n] of any scale.

    Returns:
        [N, m, n] in the type of the products: bfloat16, which is enough for a direction, where that is fast.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)).to(_product_type(x.device.type))
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


@functools.cache
def _product_type(device: str) -> torch.dtype:
    fast = device == "cuda" or (device == "cpu" and _cpu_capabilities().get("avx512_bf16", False))
    return torch.bfloat16 if fast else torch.float32


def _cpu_capabilities() -> Mapping[str, Any]:
    """What the processor can do; nothing is known of it before PyTorch 2.10."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


class Muon(AdamW):
    """AdamW whose groups with the flag ``MATRIX`` are stepped by Muon.

    Args:
        groups: Parameter groups with their learning rates and the flag.
        betas: Of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on all groups."""
        groups = self.param_groups
        for group in groups:
            if group[MATRIX]:
                self._step_matrices(group)
        self.param_groups = [g for g in groups if not g[MATRIX]]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _step_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is not None:
                alike[len(p), p[0].numel()].append((p, p.grad))
        for (rows, columns), pairs in alike.items():
            parameters, gradients = map(list, zip(*pairs, strict=True))
            moments = [self._momentum(p) for p in parameters]
            torch._foreach_lerp_(moments, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, moments, MOMENTUM)
            steps = orthogonalise(torch.stack([m.reshape(rows, columns) for m in ahead]))
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            factor = -group["lr"] * math.sqrt(max(rows, columns))
            for p, change in zip(parameters, steps, strict=True):
                p.add_(change.view(p.shape), alpha=factor)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # AdamW reads it when a state is loaded
        momentum: Tensor = state["momentum"]
        return momentum
