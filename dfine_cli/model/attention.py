"""Multi-head self-attention with the parameters of ``nn.MultiheadAttention`` and only the fused path."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MultiheadSelfAttention(nn.Module):
    """Scaled dot-product attention whose queries and keys are made from one input.

    Parameter names, shapes and initialisation are those of ``nn.MultiheadAttention``, which cannot be
    called without either its weights or its checks. Here attention weights are never materialised.

    Args:
        width: Channels of input and output, D; a multiple of ``heads``.
        heads: Number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention output [B, N, D].

        Args:
            query: [B, N, D].
            key: [B, M, D]; if it is the same object as ``query``, both are projected at once.
            value: [B, M, D].
            mask: [N, M] bool, True where a query must not see a key; None: it sees all.
        """
        q, k = self._project_query_and_key(query, key)
        width = query.shape[-1]
        v = F.linear(value, self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :])
        attended = F.scaled_dot_product_attention(
            self._split(q), self._split(k), self._split(v), None if mask is None else ~mask
        )
        output: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output

    def _project_query_and_key(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        width = query.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key:
            q, k = F.linear(query, weight[: 2 * width], bias[: 2 * width]).chunk(2, -1)
            return q, k
        return (
            F.linear(query, weight[:width], bias[:width]),
            F.linear(key, weight[width : 2 * width], bias[width : 2 * width]),
        )

    def _split(self, tokens: Tensor) -> Tensor:
        """[B, N, D] to [B, heads, N, D / heads]."""
        batch, count, width = tokens.shape
        return tokens.view(batch, count, self.heads, width // self.heads).transpose(1, 2)
