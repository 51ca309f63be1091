import math

import pytest
import torch
from torch import nn

from dfine_cli.config import schema
from dfine_cli.training.ema import Ema, decay_of, start_share


def test_published_ramp() -> None:
    decay = decay_of(schema.Ema(decay=0.9999, warmup_steps=1000), 100_000)
    assert decay(1) == pytest.approx(0.0009994, abs=1e-7)
    assert decay(1000) == pytest.approx(0.632057, abs=1e-6)
    assert decay(5000) == pytest.approx(0.993163, abs=1e-6)


@pytest.mark.parametrize("total", [10, 100, 1000, 100_000])
def test_share_forgets_the_start_weights_at_any_length(total: int) -> None:
    assert start_share(decay_of(schema.Ema(share=0.02), total), total) < 0.01


def test_published_decay_without_ramp_keeps_the_start_weights_of_a_short_run() -> None:
    decay = decay_of(schema.Ema(decay=0.9999, warmup_steps=0), 768)
    assert start_share(decay, 768) == pytest.approx(0.9999**768)


def test_update_follows_floats_and_leaves_constants_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model.register_buffer("anchors", torch.zeros(4))
    ema = Ema(model, lambda t: 0.75)
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1)
        model[1].running_mean.add_(2)
        model.anchors.add_(1)
        model[1].num_batches_tracked.add_(5)
    ema.update()
    torch.testing.assert_close(ema.model[0].weight, start + 0.25)
    torch.testing.assert_close(ema.model[1].running_mean, torch.full((2,), 0.5))
    assert ema.model.anchors.eq(0).all()
    assert ema.updates == 1


def test_a_shared_parameter_moves_once() -> None:
    model = nn.Module()
    model.a = nn.Linear(1, 1, bias=False)
    model.b = model.a
    ema = Ema(model, lambda t: 0.5)
    with torch.no_grad():
        model.a.weight.fill_(1)
    before = float(ema.model.a.weight)
    ema.update()
    assert math.isclose(float(ema.model.b.weight), (before + 1) / 2, rel_tol=1e-6)
