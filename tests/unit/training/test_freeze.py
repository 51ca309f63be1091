"""What is frozen gets no gradient and keeps its statistics."""

import pytest
import torch
from torch import nn

from dfine_cli.config.schema import Optim
from dfine_cli.model.dfine import DFINE, build_model
from dfine_cli.training.ema import Ema
from dfine_cli.training.freeze import FROZEN, freeze
from dfine_cli.training.optimizer import build_optimizer
from dfine_cli.training.state import TrainState
from dfine_cli.types import Target

HEADS = (
    "enc_score_head",
    "dec_score_head",
    "enc_bbox_head",
    "pre_bbox_head",
    "dec_bbox_head",
    "denoising_class_embed",
)


def state_of(model: DFINE, what: str) -> TrainState:
    norms = freeze(model, what)
    optimizer = build_optimizer(model, Optim(lr=1e-2, backbone_lr=1e-2), "n")
    return TrainState(
        model, Ema(model, lambda t: 0.9), optimizer, torch.amp.GradScaler("cpu", enabled=False), [], norms
    )


def is_kept(key: str, what: str) -> bool:
    part = key.split(".")[0]
    return {
        "none": False,
        "backbone": part == "backbone",
        "encoder": part in ("backbone", "encoder"),
        "all-but-head": part in ("backbone", "encoder") or key.split(".")[1] not in HEADS,
    }[what]


@pytest.mark.parametrize("what", FROZEN)
def test_what_is_frozen_does_not_change_and_the_rest_does(what: str) -> None:
    torch.manual_seed(0)
    model = build_model("n", 3, num_queries=10, num_denoising=10)
    state = state_of(model, what)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state.train_mode()
    target = Target(
        torch.tensor([0, 2]), torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.3, 0.2, 0.2]]), 0, (64, 64)
    )
    output = model(torch.rand(2, 3, 64, 64), [target, target])
    assert output.denoising is not None, "the decoder itself stays in training mode"
    layers = (output.final, *output.aux, *output.encoder, *output.denoising.layers)
    sum(layer.logits.square().sum() + layer.boxes.sum() for layer in layers).backward()
    state.optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert not [k for k in changed if is_kept(k, what)]
    parts = {
        "backbone.stem.stem1.conv.weight",
        "encoder.input_proj.0.conv.weight",
        "decoder.enc_score_head.weight",
    }
    assert {k for k in parts if not is_kept(k, what)} <= changed
    moving = {k for k in before if k.endswith("running_mean") and not is_kept(k, what)}
    assert moving <= changed


def test_only_norms_of_frozen_parts_are_held() -> None:
    model = build_model("s", 3)
    assert freeze(model, "none") == []
    held = freeze(model, "backbone")
    assert held and set(map(id, held)) == {
        id(m) for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)
    }
