"""The network as it is deployed: fused, with post-processing in the graph, under one of two contracts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dfine_cli.artefact import Contract
from dfine_cli.model.dfine import DFINE
from dfine_cli.model.postprocess import postprocess
from dfine_cli.types import Size


class Signature(NamedTuple):
    """Names of what goes in and what comes out, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


CONTRACTS: dict[Contract, Signature] = {
    "published": Signature(("images", "orig_target_sizes"), ("labels", "boxes", "scores")),
    "end2end": Signature(("images",), ("labels", "boxes", "scores")),
}
"""What a runtime gives and gets; see ``artefact.Contract``."""


class DeployModel(nn.Module):
    """Preprocessed images to detections, tensors in and tensors out.

    Args:
        model: A detector; a fused copy of it is kept.
        input_size: (height, width) of the images in pixels.
    """

    def __init__(self, model: DFINE, input_size: Size) -> None:
        super().__init__()
        self.model = model.fused()
        self.top_k = model.decoder.num_queries
        height, width = input_size
        self.own_size: Tensor
        self.register_buffer("own_size", torch.tensor([[width, height]]))

    def forward(self, images: Tensor, orig_target_sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Labels [B, K] int64, boxes [B, K, 4] xyxy in pixels and scores [B, K], best first.

        Args:
            images: [B, 3, H, W] RGB in [0, 1].
            orig_target_sizes: [B, 2] int64 (width, height) that boxes are given in; None: the input's.
        """
        sizes = self.own_size if orig_target_sizes is None else orig_target_sizes
        return postprocess(self.model(images).final, sizes, self.top_k)
