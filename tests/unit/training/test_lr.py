import pytest

from dfine_cli.config.schema import Schedule
from dfine_cli.training.lr import lr_factor, warmup_steps


def test_published_warmup_reaches_the_full_rate_at_iteration_499() -> None:
    schedule = Schedule(epochs=160, warmup_steps=500)
    factors = [lr_factor(schedule, k, 100_000) for k in (0, 498, 499, 500, 99_999)]
    assert factors == pytest.approx([1 / 500, 499 / 500, 1, 1, 1], abs=1e-12)


def test_cosine_ends_at_its_final_share_whatever_the_length() -> None:
    schedule = Schedule(curve="cosine", final_lr=0.05, warmup_share=0.1)
    for total in (20, 500, 12_345):
        factors = [lr_factor(schedule, k, total) for k in range(total)]
        assert max(factors) <= 1
        assert factors[warmup_steps(schedule, total) - 1] == 1
        assert factors[-1] == pytest.approx(0.05)
        peak = warmup_steps(schedule, total) - 1
        assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_no_warmup_starts_at_the_peak() -> None:
    assert lr_factor(Schedule(warmup_steps=0), 0, 10) == 1
