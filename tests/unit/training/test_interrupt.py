import os
import signal

import pytest

from dfine_cli.training.interrupt import REQUESTS, Stop, stop_on_signal


def test_the_first_signal_asks_and_the_second_one_ends() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signal() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", REQUESTS)
def test_a_request_is_read_where_the_state_is_whole(number: signal.Signals) -> None:
    with stop_on_signal() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Stop):
            stop.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_only_ctrl_c_becomes_urgent_when_repeated(number: signal.Signals) -> None:
    with stop_on_signal() as stop:
        for _ in range(3):
            os.kill(os.getpid(), number)
        assert stop.asked


@pytest.mark.parametrize(("number", "heard"), [(signal.SIGINT, True), (signal.SIGHUP, False)])
def test_nohup_counts_and_the_background_of_a_script_does_not(number: signal.Signals, heard: bool) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            os.kill(os.getpid(), number)
            assert stop.asked == heard
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
