from pathlib import Path

import pytest
import torch
from torch import nn

from dfine_cli.errors import DfineError
from dfine_cli.training.guard import IN_A_ROW, KEPT, Guard, heal_buffers
from dfine_cli.types import Batch, Target

BAD, GOOD = torch.tensor(torch.nan), torch.tensor(1.0)


def batch() -> Batch:
    target = Target(torch.tensor([1]), torch.rand(1, 4), 7, (10, 10))
    return Batch(torch.rand(1, 3, 8, 8), [target])


def test_a_bad_step_is_counted_and_its_batch_kept(tmp_path: Path) -> None:
    guard = Guard(tmp_path / "kept")
    assert guard.passes(GOOD, GOOD, [batch()], 0)
    assert not guard.passes(BAD, GOOD, [batch()], 1)
    assert not guard.passes(GOOD, torch.tensor(torch.inf), [batch()], 2)
    assert guard.skipped == 2
    kept = torch.load(tmp_path / "kept" / "step-1.pt", weights_only=True)
    assert kept[0]["targets"][0]["image_id"] == 7
    assert kept[0]["images"].shape == (1, 3, 8, 8)


def test_an_overflow_of_scaled_gradients_is_not_a_fault(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    assert not guard.passes(GOOD, torch.tensor(torch.inf), [batch()], 0, scaled=True)
    assert guard.skipped == 0


def test_many_in_a_row_end_the_run_and_few_files_stay(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    with pytest.raises(DfineError, match="in a row"):
        for step in range(IN_A_ROW):
            guard.passes(BAD, GOOD, [batch()], step)
    assert len(list(tmp_path.iterdir())) == KEPT


def test_spoilt_running_statistics_are_replaced() -> None:
    model, healthy = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    model.running_mean.copy_(torch.tensor([torch.nan, 3.0]))
    healthy.running_mean.fill_(0.5)
    heal_buffers(model, healthy)
    assert model.running_mean.tolist() == [0.5, 3.0]
