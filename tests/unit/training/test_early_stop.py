"""Patience moves a run to its last phase, and then ends it."""

import pytest

from dfine_cli.phases import Phases
from dfine_cli.training.early_stop import EarlyStop
from dfine_cli.training.state import Counters


def play(scores: list[float], patience: int, *, refine_from: float = 0.7, epochs: int = 10) -> list[int]:
    """Epochs that a run of ``epochs`` goes through; epoch e reaches ``scores[e]``."""
    stop, c, done = EarlyStop(patience, Phases(epochs, refine_from=refine_from), 5), Counters(), []
    while c.epoch < epochs:
        epoch = c.epoch
        done.append(epoch)
        c.epoch, c.step = epoch + 1, c.step + 5
        if scores[epoch] > c.best:
            c.best, c.best_epoch = scores[epoch], epoch
        stop.move_on(c)
        assert c.step == 5 * c.epoch
    return done


RISING = [0.1 * i for i in range(10)]


@pytest.mark.parametrize(
    ("scores", "patience", "done"),
    [
        (RISING, 2, list(range(10))),  # better each time
        ([0.5, *[0.1] * 9], 0, list(range(10))),  # never stops
        ([0.5, *[0.1] * 9], 2, [0, 1, 2, 7, 8]),  # on to the last phase, where it does not help
        ([0.5, *[0.1] * 6, 0.6, 0.7, 0.8], 2, [0, 1, 2, 7, 8, 9]),  # where it does
        ([0.5, 0.1, 0.6, *[0.1] * 7], 2, [0, 1, 2, 3, 4, 7, 8]),  # waiting starts anew with a better epoch
        ([*RISING[:7], 0.0, 0.0, 0.0], 2, [0, 1, 2, 3, 4, 5, 6, 7, 8]),  # rose until the last phase began
        ([*[0.5] * 6, 0.1, 0.0, 0.0, 0.0], 3, [0, 1, 2, 3, 7, 8, 9]),  # equal is not better
    ],
)
def test_patience(scores: list[float], patience: int, done: list[int]) -> None:
    assert play(scores, patience) == done


def test_a_run_without_a_last_phase_just_ends() -> None:
    assert play([0.5, *[0.1] * 9], 2, refine_from=1.0) == [0, 1, 2]


def test_it_says_what_it_does() -> None:
    stop = EarlyStop(2, Phases(10, refine_from=0.7), 5)
    assert stop.move_on(Counters(epoch=3, step=15, best_epoch=0)) == (
        "AP has not risen for 2 epochs: on to the last phase, epoch 8"
    )
    assert (
        stop.move_on(Counters(epoch=9, step=45, best_epoch=0))
        == "AP has not risen for 2 epochs: the run ends"
    )
    assert stop.move_on(Counters(epoch=7, step=35, best_epoch=0)) is None, (
        "it goes on to the last phase anyway"
    )
