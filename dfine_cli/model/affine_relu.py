"""ReLU followed by a learned scale and shift, as one operation in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class AffineReLU(nn.Module):
    """``scale * relu(x) + bias`` with one learned scalar each for the whole map."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map of shape and dtype of ``x`` [B, C, H, W], whose memory is used up."""
        if self.training and not torch.compiler.is_compiling():
            y: Tensor = _AffineReLU.apply(x, self.scale, self.bias)  # type: ignore[no-untyped-call]
            return y
        return _affine(x.relu_(), self.scale, self.bias)


def _affine(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    # The scalars follow the map to half precision, or it would be promoted to theirs.
    return (x * scale.to(x.dtype)).add_(bias.to(x.dtype))


class _AffineReLU(torch.autograd.Function):
    """Passes over the map are what this costs: one kept map, and a sum of products without the products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        positive = x.relu_()
        ctx.save_for_backward(positive, scale)
        return _affine(positive, scale, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        positive, scale = ctx.saved_tensors
        grad_x = torch.ops.aten.threshold_backward(grad, positive, 0).mul_(scale.to(grad.dtype))
        grad_scale = _inner_product(grad, positive, scale.dtype)
        return grad_x, grad_scale.view(1), grad.sum(dtype=scale.dtype).view(1)


def _inner_product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of ``a * b``, two maps [B, C, H, W], in ``dtype`` and without making the product."""
    if b.is_contiguous(memory_format=torch.channels_last):  # so that flattening it is a view
        a, b = a.movedim(1, -1), b.movedim(1, -1)
    return torch.dot(a.reshape(-1).to(dtype), b.reshape(-1).to(dtype))
