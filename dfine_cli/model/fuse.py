"""Fusing for inference: modules that can become fewer operations say how, ``fuse_model`` replaces them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dfine_cli.model.frozen_norm import FrozenBatchNorm2d


@runtime_checkable
class Fusable(Protocol):
    """A module with an equal but cheaper form for inference."""

    def fuse(self) -> nn.Module:
        """The cheaper form, a new module that computes what this one computes in eval mode."""


@torch.no_grad()
def fuse_model(model: nn.Module) -> None:
    """Replace every fusable module below ``model`` in place; from then on it is for inference only.

    Outputs stay equal up to rounding, while the state dict gets other keys: save before fusing.
    """
    for name, child in model.named_children():
        if isinstance(child, Fusable):
            setattr(model, name, child.fuse().train(child.training))
        else:
            fuse_model(child)


def merge(conv: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the one convolution that equals ``conv`` and then ``norm`` with running statistics."""
    kernel, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,  # type: ignore[arg-type]  # our batch norms always track statistics
        norm.running_var,  # type: ignore[arg-type]
        norm.eps,
        norm.weight,
        norm.bias,
    )
    return kernel.detach(), bias.detach()


def with_weights(conv: nn.Conv2d, kernel: Tensor, bias: Tensor) -> nn.Conv2d:
    """A frozen convolution that moves over its input as ``conv`` does, with other weights."""
    fused = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        groups=conv.groups,
        device="meta",
    )
    fused.weight = nn.Parameter(kernel, requires_grad=False)
    fused.bias = nn.Parameter(bias, requires_grad=False)
    return fused
