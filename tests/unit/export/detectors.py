"""Detectors that say something without training, and what they say in torch."""

from __future__ import annotations

from functools import lru_cache

import onnx
import torch

from dfine_cli.export.onnx import build_graph
from dfine_cli.export.spec import GraphSpec
from dfine_cli.model.dfine import DFINE, build_model
from dfine_cli.model.postprocess import postprocess


@lru_cache
def make_graph(spec: GraphSpec) -> onnx.ModelProto:
    """The graph of ``make_detector("n", spec.input_size)``; not to be changed."""
    return build_graph(make_detector("n", spec.input_size), spec)


def make_detector(size: str, input_size: tuple[int, int], *, queries: int = 20, classes: int = 7) -> DFINE:
    """A model all of whose parts matter: no weight, norm or affine is at the value it starts from."""
    torch.manual_seed(0)
    model = build_model(size, classes, input_size=input_size, num_queries=queries).eval()
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.add_(torch.randn_like(module.weight) * 0.02)
                module.bias.add_(torch.randn_like(module.bias) * 0.1)
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.7, 1.3)
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.1)
            elif name.endswith(".lab") and hasattr(module, "scale"):
                module.scale.uniform_(-0.2, 1.2)
                module.bias.normal_(0, 0.1)
        for head in (model.decoder.enc_score_head, *model.decoder.dec_score_head):
            head.weight.normal_(0, 0.3)
    return model


def make_inputs(count: int, input_size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images [B, 3, H, W], and sizes [B, 2] (width, height) of as many originals."""
    torch.manual_seed(1)
    return torch.rand(count, 3, *input_size), torch.randint(50, 1000, (count, 2))


@torch.no_grad()
def expected(model: DFINE, images: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Labels, boxes and scores as evaluation makes them."""
    final = model(images).final
    return postprocess(final, sizes, final.logits.shape[1])
