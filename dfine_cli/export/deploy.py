"""The network as it is deployed: fused, with post-processing in the graph, under one of two contracts."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfine_cli.artefact import Contract
from dfine_cli.export.deploy_decoder import DeployDecoder
from dfine_cli.export.deploy_encoder import DeployEncoder
from dfine_cli.export.spec import GraphSpec
from dfine_cli.model.dfine import DFINE, check_input_size
from dfine_cli.model.sizes import SIZES


class Signature(NamedTuple):
    """Names of what goes in and what comes out, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


CONTRACTS: dict[Contract, Signature] = {
    "published": Signature(("images", "orig_target_sizes"), ("labels", "boxes", "scores")),
    "end2end": Signature(("images",), ("labels", "boxes", "scores")),
}
"""What a runtime gives and gets; see ``artefact.Contract``."""


WIDE = 256
"""Channels of a decoder from which Gather costs no more than GridSample on a CPU, which reads every channel anew:
equal with 256, 5 to 13 per cent of N more with 128 (``tests/benchmarks/bench_export.py``)."""


class DeployModel(nn.Module):
    """Preprocessed images to detections, tensors in and tensors out.

    Args:
        model: A trained detector; it stays as it is.
        spec: What the graph is to be.
    """

    def __init__(self, model: DFINE, spec: GraphSpec) -> None:
        super().__init__()
        check_input_size(spec.input_size)
        fused = model.fused()
        height, width = spec.input_size
        shapes = tuple((height // stride, width // stride) for stride in SIZES[model.size].strides)
        self.batch = spec.batch
        self.backbone = fused.backbone
        self.encoder = DeployEncoder(fused.encoder, shapes)
        sampling = spec.sampling
        if sampling == "auto":
            sampling = "gather" if SIZES[model.size].decoder_hidden >= WIDE else "grid"
        self.decoder = DeployDecoder(fused.decoder, shapes, sampling)
        self.num_classes = model.num_classes
        self.own_size: Tensor
        self.register_buffer("own_size", torch.tensor([[width, height, width, height]]).float())

    def forward(self, images: Tensor, orig_target_sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Labels [B, K] int64, boxes [B, K, 4] xyxy in pixels and scores [B, K], best first.

        Args:
            images: [B, 3, H, W] RGB in [0, 1].
            orig_target_sizes: [B, 2] int64 (width, height) that boxes are given in; None: the input's.
        """
        numbers = self._numbers(images)
        queries = self.decoder.queries
        found = self.decoder(self.encoder(self.backbone(images)), numbers)
        best, index = found.logits.view(-1, queries * self.num_classes).topk(queries)
        query = torch.div(index, self.num_classes, rounding_mode="trunc")
        rows = query if numbers is None else query + numbers[:, None] * queries
        boxes = F.embedding(rows, found.boxes_xyxy)
        low, high = boxes.chunk(2, 2)
        middle = (low + high) * 0.5  # a box of negative size counts as its middle
        boxes = torch.cat((torch.minimum(low, middle), torch.maximum(high, middle)), 2)
        if orig_target_sizes is None:
            sizes = self.own_size
        else:
            sizes = orig_target_sizes.to(boxes.dtype)
            sizes = torch.cat((sizes, sizes), 1)
        return index - query * self.num_classes, boxes * sizes[:, None], best.sigmoid()

    def _numbers(self, images: Tensor) -> Tensor | None:
        """[B] number of each image, which is a constant where the batch is; None for one image."""
        if self.batch.most == 1:
            return None
        count = self.batch.most if self.batch.is_fixed else images.shape[0]
        return torch.arange(count, device=images.device)
