import pytest

from dfine_cli.phases import Phase, Phases


@pytest.mark.parametrize(
    ("epochs", "share", "first"),
    [(160, 0.925, 148), (132, 0.909, 120), (80, 0.9, 72), (64, 0.875, 56), (56, 0.857, 48), (36, 0.833, 30)],
)
def test_three_decimals_give_the_published_boundaries(epochs: int, share: float, first: int) -> None:
    phases = Phases(epochs, refine_from=share)
    assert phases.first_epoch(Phase.REFINE) == first
    assert phases.at(first - 1) is Phase.PLAIN
    assert phases.at(first) is Phase.REFINE


def test_timeline_covers_every_epoch_once() -> None:
    phases = Phases(20, 0.1, 0.6, 0.8)
    assert phases.timeline() == [
        (Phase.WARM, 0, 2),
        (Phase.DENSE, 2, 12),
        (Phase.PLAIN, 12, 16),
        (Phase.REFINE, 16, 20),
    ]
    assert [e for e in range(20) if phases.starts(e)] == [0, 2, 12, 16]


def test_empty_phases_do_not_appear() -> None:
    assert Phases(3).timeline() == [(Phase.PLAIN, 0, 3)]
    assert Phases(4, dense_until=0.5, refine_from=0.5).timeline() == [
        (Phase.DENSE, 0, 2),
        (Phase.REFINE, 2, 4),
    ]
