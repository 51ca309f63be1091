"""Forward never asks the device for a value, which would make the host wait for all work that is queued."""

import pytest
import torch

from dfine_cli.model.dfine import DFINE, build_model
from dfine_cli.types import Target

META = torch.device("meta")
"""Tensors without values: whatever wants to see one (``item``, ``cpu``, ``nonzero``, ``if tensor``) fails."""


def targets(*counts: int) -> list[Target]:
    return [
        Target(torch.zeros(n, dtype=torch.int64, device=META), torch.rand(n, 4, device=META), i, (64, 96))
        for i, n in enumerate(counts)
    ]


@pytest.fixture(scope="module")
def model() -> DFINE:
    return build_model("n", 5, num_queries=30).to(META)


@pytest.mark.parametrize("size", [(64, 96), (96, 96)])
def test_in_evaluation(model: DFINE, size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = model.eval()(torch.rand(2, 3, *size, device=META))
    assert output.final.logits.shape == (2, 30, 5)


@pytest.mark.parametrize("counts", [(3, 0), (0, 0), (7, 40)], ids=["some", "empty", "crowded"])
def test_in_training(model: DFINE, counts: tuple[int, int]) -> None:
    output = model.train()(torch.rand(2, 3, 64, 96, device=META), targets(*counts))
    assert output.final.logits.shape == (2, 30, 5)
    assert (output.denoising is None) == (max(counts) == 0)


def test_it_would_notice(model: DFINE, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = model.encoder.forward

    def looking(features):  # type: ignore[no-untyped-def]
        if features[0].max() > 1e9:
            raise OverflowError
        return forward(features)

    monkeypatch.setattr(model.encoder, "forward", looking)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        model.eval()(torch.rand(1, 3, 64, 64, device=META))
