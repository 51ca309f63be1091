import copy

import pytest
import torch
from torch import nn

from dfine_cli.training import muon
from dfine_cli.training.muon import MATRIX, Muon, is_matrix, orthogonalise

BETAS = (0.9, 0.99)


@pytest.fixture(autouse=True, params=[torch.float32, torch.bfloat16], ids=str)
def product_type(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """The type that products are made in, whatever this machine is fast at."""
    monkeypatch.setattr(muon, "_product_type", lambda device: request.param)
    return request.param


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 96), (2, 96, 16)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_singular_values_become_about_equal_and_directions_stay(
    shape: tuple[int, int, int], scale: float, product_type: torch.dtype
) -> None:
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=torch.manual_seed(0)), full_matrices=False)
    spread = torch.linspace(0.03, 1, u.shape[-1])
    result = orthogonalise(scale * (u * spread) @ v)
    assert result.dtype is product_type
    values = u.mT @ result.float() @ v.mT  # diagonal if the singular vectors are the same
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.5 and diagonal.max() < 1.3
    # 3 significant digits of bfloat16, added up over the products of five rounds.
    assert (values - diagonal.diag_embed()).abs().max() < (1e-3 if product_type is torch.float32 else 0.1)


def test_no_gradient_at_all_gives_no_step() -> None:
    assert orthogonalise(torch.zeros(1, 16, 16)).abs().max() == 0


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_step_on_a_kernel_is_as_large_as_the_rate_in_any_layout(memory: torch.memory_format) -> None:
    kernel = nn.Parameter(torch.randn(32, 16, 3, 3).to(memory_format=memory))
    before = kernel.detach().clone()
    kernel.grad = torch.randn(32, 16, 3, 3, generator=torch.manual_seed(1)).to(memory_format=memory)
    expected = orthogonalise(kernel.grad.reshape(1, 32, 144))[0].view(32, 16, 3, 3)
    optimizer = Muon([{"params": [kernel], "lr": 0.01, "weight_decay": 0.0, MATRIX: True}], BETAS)
    optimizer.step()
    change = before - kernel.detach()
    # The root mean square is the rate up to what the iteration leaves of the singular values.
    assert 0.007 < change.square().mean().sqrt() < 0.012
    torch.testing.assert_close(change, 0.01 * 12 * expected.float(), rtol=1e-3, atol=1e-6)


def test_other_groups_are_stepped_exactly_as_by_adamw_and_all_resume() -> None:
    layer = nn.Linear(16, 32)
    other = copy.deepcopy(layer)

    def groups(module: nn.Linear) -> list[dict[str, object]]:
        return [
            {"params": [module.weight], "lr": 0.01, "weight_decay": 0.1, MATRIX: True},
            {"params": [module.bias], "lr": 0.01, "weight_decay": 0.1, MATRIX: False},
        ]

    ours = Muon(groups(layer), BETAS)
    adamw = torch.optim.AdamW([{**groups(other)[1]}], betas=BETAS, fused=True)
    for step in range(4):
        for module in (layer, other):
            module.weight.grad = torch.full_like(module.weight, 0.1) + torch.eye(32, 16)
            module.bias.grad = torch.full_like(module.bias, step - 1.5)
        ours.step()
        adamw.step()
        if step == 1:  # as a run that is stopped and resumed
            fresh = Muon(groups(layer), BETAS)
            fresh.load_state_dict(copy.deepcopy(ours.state_dict()))
            ours = fresh
    torch.testing.assert_close(layer.bias, other.bias, rtol=0, atol=0)
    assert not torch.equal(layer.weight, other.weight)
    assert set(ours.state[layer.weight]) == {"momentum", "step"}


def test_what_has_a_row_per_class_or_a_short_side_is_left_to_adamw() -> None:
    kernel, depthwise = nn.Parameter(torch.zeros(64, 8, 3, 3)), nn.Parameter(torch.zeros(64, 1, 3, 3))
    assert is_matrix("backbone.stem.conv.weight", kernel)
    assert not is_matrix("backbone.stem.conv.weight", depthwise)
    assert not is_matrix("decoder.enc_score_head.weight", nn.Parameter(torch.zeros(80, 128)))
    assert not is_matrix("decoder.denoising_class_embed.weight", nn.Parameter(torch.zeros(81, 128)))
    assert not is_matrix("decoder.enc_score_head.bias", nn.Parameter(torch.zeros(80)))
