"""Building blocks of HGNetV2: convolution with norm, stem, light layer, HG block and stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfine_cli.model.affine_relu import AffineReLU
from dfine_cli.model.frozen_norm import FrozenBatchNorm2d
from dfine_cli.model.fuse import merge, with_weights


class Bound(nn.Module):
    """In-place ``max(x, limit)``, or ``min(x, limit)``: ReLU with the corner elsewhere.

    Args:
        limit: The least value, or the greatest.
        below: Whether ``limit`` is the least.
    """

    def __init__(self, limit: float, *, below: bool) -> None:
        super().__init__()
        self.limit, self.below = limit, below

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [any shape], cut off."""
        return x.clamp_(min=self.limit) if self.below else x.clamp_(max=self.limit)


class ConvBnAct(nn.Module):
    """Convolution, batch norm, and maybe ReLU and a learnable affine.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Side of the kernel; the input is zero-padded by ``(kernel - 1) // 2`` on every side.
        stride: Step of the kernel.
        groups: Channel groups of the convolution.
        act: Whether ReLU follows.
        learnable_affine: Whether an affine follows the ReLU; ignored without ``act``.
        freeze_norm: Use a frozen batch norm.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        act: bool = True,
        learnable_affine: bool,
        freeze_norm: bool,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.bn = FrozenBatchNorm2d(outputs) if freeze_norm else nn.BatchNorm2d(outputs)
        # Norms do not need their output to differentiate, so that activations can use its memory.
        self.act = nn.ReLU(inplace=True) if act and not learnable_affine else nn.Identity()
        self.lab = AffineReLU() if act and learnable_affine else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, outputs, H / stride, W / stride] of ``x`` [B, inputs, H, W]."""
        output: Tensor = self.lab(self.act(self.bn(self.conv(x))))
        return output

    def fuse(self) -> nn.Module:
        """One convolution with bias, and one bound below or above if there was an activation."""
        kernel, bias = merge(self.conv, self.bn)
        if not isinstance(self.lab, AffineReLU):
            conv = with_weights(self.conv, kernel, bias)
            return nn.Sequential(conv, self.act) if isinstance(self.act, nn.ReLU) else conv
        # relu(z) * s + b is z * s + b cut off at b: from below, or from above where s is negative.
        scale, shift = self.lab.scale.detach(), self.lab.bias.detach()
        conv = with_weights(self.conv, kernel * scale, bias * scale + shift)
        return nn.Sequential(conv, Bound(shift.item(), below=scale.item() >= 0))


class LightLayer(nn.Module):
    """A point-wise and a depth-wise convolution in place of a dense one; activation after the second.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Side of the depth-wise kernel.
        learnable_affine: See ``ConvBnAct``.
        freeze_norm: See ``ConvBnAct``.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, learnable_affine: bool, freeze_norm: bool
    ) -> None:
        super().__init__()
        self.conv1 = ConvBnAct(inputs, outputs, 1, act=False, learnable_affine=False, freeze_norm=freeze_norm)
        self.conv2 = ConvBnAct(
            outputs,
            outputs,
            kernel,
            groups=outputs,
            learnable_affine=learnable_affine,
            freeze_norm=freeze_norm,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, outputs, H, W] of ``x`` [B, inputs, H, W]."""
        output: Tensor = self.conv2(self.conv1(x))
        return output


class Stem(nn.Module):
    """Image to a quarter of its size, by a convolution path and a pooling path side by side.

    Args:
        mid: Channels inside.
        outputs: Output channels.
        learnable_affine: See ``ConvBnAct``.
        freeze_norm: See ``ConvBnAct``.
    """

    def __init__(self, mid: int, outputs: int, *, learnable_affine: bool, freeze_norm: bool) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> ConvBnAct:
            return ConvBnAct(
                inputs, outputs, kernel, stride, learnable_affine=learnable_affine, freeze_norm=freeze_norm
            )

        self.stem1 = conv(3, mid, 3, 2)
        self.stem2a = conv(mid, mid // 2, 2)
        self.stem2b = conv(mid // 2, mid, 2)
        self.stem3 = conv(2 * mid, mid, 3, 2)
        self.stem4 = conv(mid, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, outputs, H / 4, W / 4] of ``images`` [B, 3, H, W]."""
        # published: the padding is 0 although the affine may leave values below it, and competes in the pool.
        x = _pad_right_bottom(self.stem1(images))
        pooled = _pool(x)
        convolved = self.stem2b(_pad_right_bottom(self.stem2a(x)))
        output: Tensor = self.stem4(self.stem3(torch.cat((pooled, convolved), 1)))
        return output


class HgBlock(nn.Module):
    """A chain of layers whose input and every output are concatenated and squeezed by two 1x1 convolutions.

    Args:
        inputs: Input channels.
        mid: Channels of every layer.
        outputs: Output channels.
        layers: Number of layers.
        light: Use light layers with 5x5 kernels instead of dense 3x3 ones.
        residual: Add the input to the output.
        learnable_affine: See ``ConvBnAct``.
        freeze_norm: See ``ConvBnAct``.
    """

    def __init__(
        self,
        inputs: int,
        mid: int,
        outputs: int,
        layers: int,
        *,
        light: bool,
        residual: bool,
        learnable_affine: bool,
        freeze_norm: bool,
    ) -> None:
        super().__init__()
        layer, kernel = (LightLayer, 5) if light else (ConvBnAct, 3)
        self.residual = residual
        self.layers = nn.ModuleList(
            layer(
                mid if index else inputs,
                mid,
                kernel,
                learnable_affine=learnable_affine,
                freeze_norm=freeze_norm,
            )
            for index in range(layers)
        )
        squeezed = outputs // 2
        self.aggregation = nn.Sequential(
            ConvBnAct(
                inputs + layers * mid,
                squeezed,
                1,
                learnable_affine=learnable_affine,
                freeze_norm=freeze_norm,
            ),
            ConvBnAct(squeezed, outputs, 1, learnable_affine=learnable_affine, freeze_norm=freeze_norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, outputs, H, W] of ``x`` [B, inputs, H, W]."""
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        output: Tensor = self.aggregation(torch.cat(maps, 1))
        return output + x if self.residual else output


class HgStage(nn.Module):
    """Blocks at one resolution, after an optional halving of it.

    Args:
        inputs: Input channels.
        mid: Channels of every layer.
        outputs: Output channels.
        blocks: Number of blocks; all but the first are residual.
        layers: Layers of a block.
        downsample: Halve the resolution first.
        light: See ``HgBlock``.
        learnable_affine: See ``ConvBnAct``.
        freeze_norm: See ``ConvBnAct``.
    """

    def __init__(
        self,
        inputs: int,
        mid: int,
        outputs: int,
        blocks: int,
        layers: int,
        *,
        downsample: bool,
        light: bool,
        learnable_affine: bool,
        freeze_norm: bool,
    ) -> None:
        super().__init__()
        self.downsample = (
            ConvBnAct(
                inputs,
                inputs,
                3,
                2,
                groups=inputs,
                act=False,
                learnable_affine=False,
                freeze_norm=freeze_norm,
            )
            if downsample
            else nn.Identity()
        )
        self.blocks = nn.Sequential(
            *(
                HgBlock(
                    outputs if index else inputs,
                    mid,
                    outputs,
                    layers,
                    light=light,
                    residual=index > 0,
                    learnable_affine=learnable_affine,
                    freeze_norm=freeze_norm,
                )
                for index in range(blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, outputs, H', W'] of ``x`` [B, inputs, H, W]."""
        output: Tensor = self.blocks(self.downsample(x))
        return output


def _pad_right_bottom(x: Tensor) -> Tensor:
    """``x`` with a column of zeros on the right and a row of zeros below, so that 2x2 kernels keep its size."""
    return F.pad(x, (0, 1, 0, 1))


def _pool(x: Tensor) -> Tensor:
    """Maximum of every 2x2 window, [B, C, H - 1, W - 1]."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    if x.requires_grad or traced or x.device.type != "cpu":
        return F.max_pool2d(x, 2, 1)
    # On a CPU the pooling operator costs a fifth of the whole backbone, and this next to nothing; but
    # backwards it is the slower one, and runtimes know the operator.
    x = torch.maximum(x[:, :, :-1], x[:, :, 1:])
    return torch.maximum(x[..., :-1], x[..., 1:])
