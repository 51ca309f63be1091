"""Building blocks of the encoder: convolution with norm, re-parameterised block, fusion block, SCDown."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfine_cli.model.fuse import merge, with_weights


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, and maybe SiLU.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Side of the kernel; the input is zero-padded by ``(kernel - 1) // 2`` on every side.
        stride: Step of the kernel.
        groups: Channel groups of the convolution.
        act: Whether SiLU follows.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, act: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, outputs, H / stride, W / stride] of ``x`` [B, inputs, H, W]."""
        output: Tensor = self.act(self.norm(self.conv(x)))
        return output

    def fuse(self) -> nn.Module:
        """One convolution with bias, and SiLU if there was one."""
        conv = with_weights(self.conv, *merge(self.conv, self.norm))
        return nn.Sequential(conv, nn.SiLU(inplace=True)) if isinstance(self.act, nn.SiLU) else conv


class RepVggBlock(nn.Module):
    """A 3x3 and a 1x1 convolution side by side, added, then SiLU; one 3x3 convolution once fused.

    Args:
        channels: Input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3)
        self.conv2 = ConvNorm(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map of the shape of ``x`` [B, channels, H, W]."""
        return F.silu(self.conv1(x) + self.conv2(x))

    def fuse(self) -> nn.Module:
        """One 3x3 convolution with bias, and SiLU."""
        wide, wide_bias = merge(self.conv1.conv, self.conv1.norm)
        narrow, narrow_bias = merge(self.conv2.conv, self.conv2.norm)
        conv = with_weights(self.conv1.conv, wide + F.pad(narrow, (1, 1, 1, 1)), wide_bias + narrow_bias)
        return nn.Sequential(conv, nn.SiLU(inplace=True))


class CspLayer(nn.Module):
    """Two 1x1 paths, one of them through re-parameterised blocks, added.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        blocks: Number of re-parameterised blocks.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 1, act=True)
        self.conv2 = ConvNorm(inputs, outputs, 1, act=True)
        self.bottlenecks = nn.Sequential(*(RepVggBlock(outputs) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, outputs, H, W] of ``x`` [B, inputs, H, W]."""
        output: Tensor = self.bottlenecks(self.conv1(x)) + self.conv2(x)
        return output


class FusionBlock(nn.Module):
    """GELAN block (RepNCSPELAN4) that makes one level out of two concatenated ones.

    Half of the map goes through two CSP layers in a row; both halves and both results are merged.

    Args:
        hidden: Output channels h; the input has 2h.
        inner: Channels of the CSP layers.
        blocks: Re-parameterised blocks of a CSP layer.
    """

    def __init__(self, hidden: int, inner: int, blocks: int) -> None:
        super().__init__()
        self.cv1 = ConvNorm(2 * hidden, 2 * hidden, 1, act=True)
        self.cv2 = nn.Sequential(CspLayer(hidden, inner, blocks), ConvNorm(inner, inner, 3, act=True))
        self.cv3 = nn.Sequential(CspLayer(inner, inner, blocks), ConvNorm(inner, inner, 3, act=True))
        self.cv4 = ConvNorm(2 * hidden + 2 * inner, hidden, 1, act=True)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Map [B, h, H, W] of two maps of that shape, concatenated in this order."""
        both = self.cv1(torch.cat((first, second), 1))
        once = self.cv2(both.chunk(2, 1)[1])
        output: Tensor = self.cv4(torch.cat((both, once, self.cv3(once)), 1))
        return output


class ScDown(nn.Module):
    """Half the resolution by a point-wise, then a strided depth-wise convolution; no activation.

    Args:
        channels: Input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = ConvNorm(channels, channels, 1)
        self.cv2 = ConvNorm(channels, channels, 3, 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H / 2, W / 2] of ``x`` [B, channels, H, W]."""
        output: Tensor = self.cv2(self.cv1(x))
        return output
