import pytest

from dfine_cli.config.schema import Optim
from dfine_cli.model.dfine import build_model
from dfine_cli.training.optimizer import (
    GROUPS,
    accumulation,
    assign,
    build_optimizer,
    effective_batch,
    lr_scale,
)

PUBLISHED = {
    "n": [186, 0, 151, 91],
    "s": [186, 0, 191, 111],
    "m": [262, 0, 242, 140],
    "l": [75, 220, 274],
    "x": [125, 226, 277],
}
"""Trainable tensors in each group of the published code, in its order."""


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_groups_hold_the_published_tensors(size: str) -> None:
    model = build_model(size, 80)
    members = assign(model, GROUPS["published"][size])
    assert [len(m) for m in members.values()] == PUBLISHED[size]


@pytest.mark.parametrize("size", ["n", "l"])
def test_clean_groups_decay_no_vector_and_cover_everything(size: str) -> None:
    model = build_model(size, 80)
    optimizer = build_optimizer(model, Optim(groups="clean", lr=1e-3, backbone_lr=5e-4), size)
    trained = sum(p.requires_grad for p in model.parameters())
    assert sum(len(g["params"]) for g in optimizer.param_groups) == trained
    for group in optimizer.param_groups:
        assert group["weight_decay"] == 0 or all(p.ndim > 1 for p in group["params"])
        assert group["peak_lr"] == (5e-4 if "backbone" in group["name"] else 1e-3)


def test_batches_accumulate_up_to_the_nominal_one_and_larger_ones_scale_the_rate() -> None:
    small = Optim(batch=4, nominal_batch=16)
    assert (accumulation(small), effective_batch(small), lr_scale(small)) == (4, 16, 1)
    large = Optim(batch=64, nominal_batch=16)
    assert (accumulation(large), effective_batch(large), lr_scale(large)) == (1, 64, 2)
    assert lr_scale(Optim(batch=7)) == 1


@pytest.mark.parametrize("groups", ["published", "clean"])
def test_muon_takes_the_matrices_of_every_group_and_nothing_with_a_row_per_class(groups: str) -> None:
    model = build_model("n", 80)
    names = {id(p): name for name, p in model.named_parameters()}
    optim = Optim(kind="muon", groups=groups, lr=1e-3, backbone_lr=5e-4)
    optimizer = build_optimizer(model, optim, "n")
    plain = build_optimizer(model, optim.model_copy(update={"kind": "adamw"}), "n")
    rates = {id(p): (g["peak_lr"], g["weight_decay"]) for g in plain.param_groups for p in g["params"]}
    seen = {id(p): (g["peak_lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert seen == rates
    matrices = [p for g in optimizer.param_groups if g["matrix"] for p in g["params"]]
    assert sum(p.numel() for p in matrices) > 0.95 * sum(p.numel() for p in model.parameters())
    assert all(p.ndim >= 2 for p in matrices)
    assert not any("score" in names[id(p)] or "class_embed" in names[id(p)] for p in matrices)
