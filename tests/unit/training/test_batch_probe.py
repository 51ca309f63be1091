"""``--batch auto``: what fits, found by taking the worst step."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dfine_cli.config.schema import Recipe
from dfine_cli.data.coco import load_coco
from dfine_cli.errors import DfineError
from dfine_cli.training import batch_probe, memory
from dfine_cli.training.batch_probe import crowded, divisors, largest, probe_batch
from dfine_cli.training.memory import free_mb

MakeRecipe = Callable[..., Recipe]


def line(base: float, each: float, breaks_at: int = 10**9) -> Callable[[int], float | None]:
    return lambda n: None if n >= breaks_at else base + each * n


@pytest.mark.parametrize(
    ("measure", "limit", "best", "tried"),
    [
        (line(100, 10), 1000, 32, [1, 2, 8, 32]),  # all fit; it goes up in strides
        (line(100, 100), 1000, 8, [1, 2, 8]),
        (line(100, 100), 950, 8, [1, 2, 8]),
        (line(100, 100), 899, 4, [1, 2, 4]),  # the line says 8 would not fit
        (line(100, 100), 250, 1, [1, 2]),
        (line(100, 100), 150, None, [1]),
        (line(100, 10, breaks_at=8), 1000, 2, [1, 2, 8]),  # the device says no, whatever the line says
        (line(100, 0), 1000, 32, [1, 2, 8, 32]),  # flat, as the process needed more before
    ],
)
def test_the_largest_batch_below_the_limit(
    measure: Callable[[int], float | None], limit: float, best: int | None, tried: list[int]
) -> None:
    found, measured = largest(divisors(32), measure, limit)
    assert found == best and list(measured) == tried


def test_candidates_reach_the_nominal_batch_in_whole_passes() -> None:
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(1) == [1] and divisors(7) == [1, 7]


def test_the_most_crowded_images_come_first(toy_data: Path) -> None:
    file = load_coco(toy_data / "annotations" / "instances_train.json")
    alone, mosaic = crowded(file, 1), crowded(file, 4)
    assert alone == sorted(alone, reverse=True) and len(alone) == 9
    assert mosaic[0] == sum(alone[:4]) and sum(mosaic) == sum(alone) == len(file.annotations.ids)


def test_a_probe_takes_the_largest_size_and_what_fits(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    step = batch_probe.train_step

    def watched(state, plan, guard, batches):  # type: ignore[no-untyped-def]
        seen.append((*batches[0].images.shape, max(len(t.labels) for t in batches[0].targets)))
        return step(state, plan, guard, batches)

    monkeypatch.setattr(batch_probe, "train_step", watched)
    recipe = make_recipe(
        data={"input_size": (96, 128)},
        augment={"multi_scale": 1, "mosaic": 0.0},
        optim={"batch": 1, "nominal_batch": 2},
    )
    found = probe_batch(recipe)
    assert found.batch == 2 and list(found.measured) == [1, 2]
    assert [s[:4] for s in seen] == [(1, 3, 128, 160), (2, 3, 128, 160)]
    most = max(crowded(load_coco(recipe.data.train_json), 1))  # type: ignore[arg-type]
    assert {s[4] for s in seen} == {most}
    assert "worst step: 160x128" in found.tell() and found.to_dict()["batch"] == 2
    assert "optim.nominal_batch, more is not tried" in found.tell()


def test_too_little_memory_is_told(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_probe, "free_mb", lambda device: 10.0)
    with pytest.raises(DfineError, match="not even one image fits"):
        probe_batch(make_recipe())


def test_a_device_that_runs_out_of_memory_is_no_failure(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = batch_probe.train_step

    def full(state, plan, guard, batches):  # type: ignore[no-untyped-def]
        if len(batches[0].images) > 1:
            raise torch.OutOfMemoryError("full")
        return step(state, plan, guard, batches)

    monkeypatch.setattr(batch_probe, "train_step", full)
    found = probe_batch(make_recipe(optim={"batch": 4}))
    assert found.batch == 1 and found.measured[2] is None and "nominal" not in found.tell()


def test_a_container_limits_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = free_mb(torch.device("cpu"))
    assert whole > 100
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    limit.write_text(f"{150 << 20}\n")
    used.write_text(f"{100 << 20}\n")
    monkeypatch.setattr(memory, "_LIMITS", ((limit, used),))
    own = memory.psutil.Process().memory_info().rss / 2**20
    assert free_mb(torch.device("cpu")) == pytest.approx(50 + own, rel=0.2)
    limit.write_text("max\n")
    assert free_mb(torch.device("cpu")) > 50 + own


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_by_its_own_memory(make_recipe: MakeRecipe) -> None:
    found = probe_batch(make_recipe(run={"device": "cuda"}, optim={"batch": 8}))
    assert found.batch == 8
    assert all(mb is not None and 0 < mb < found.limit_mb for mb in found.measured.values())
