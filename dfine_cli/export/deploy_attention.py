"""Self-attention as it is deployed: rows of all images in one matrix, so that every layer is one Gemm."""

from __future__ import annotations

from torch import Tensor, nn

from dfine_cli.model.attention import MultiheadSelfAttention


class RowAttention(nn.Module):
    """``MultiheadSelfAttention`` on rows, with its scale folded into the queries.

    Args:
        attention: The trained module.
        count: N, rows of an image.
    """

    def __init__(self, attention: MultiheadSelfAttention, count: int) -> None:
        super().__init__()
        weight, bias = attention.in_proj_weight.detach(), attention.in_proj_bias.detach()
        width = weight.shape[1]
        self.heads, self.count, self.width = attention.heads, count, width
        scale = weight.new_ones(2 * width)
        scale[:width] = (width // attention.heads) ** -0.5
        self.query_and_key = linear(weight[: 2 * width] * scale[:, None], bias[: 2 * width] * scale)
        self.value = linear(weight[2 * width :], bias[2 * width :])
        self.out_proj = attention.out_proj

    def forward(self, placed: Tensor, content: Tensor) -> Tensor:
        """[B * N, d] from what queries and keys, and what values are made of, both [B * N, d]."""
        each = self.width // self.heads
        both = self.query_and_key(placed).view(-1, self.count, 2 * self.heads, each).transpose(1, 2)
        query, key = both.chunk(2, 1)
        value = self.value(content).view(-1, self.count, self.heads, each).transpose(1, 2)
        attended = (query @ key.transpose(2, 3)).softmax(-1) @ value
        output: Tensor = self.out_proj(attended.transpose(1, 2).reshape(-1, self.width))
        return output


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A frozen linear layer with these weights [out, in] and [out]."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return layer
