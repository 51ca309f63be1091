import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dfine_cli.backends.openvino_core import openvino_core
from tests.unit.backends.conftest import Write

SCRIPT = """
import faulthandler, gc, os, signal, sys
import numpy as np
from pathlib import Path
faulthandler.enable()  # as the test runner does: signal handlers then have a stack of their own
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
from dfine_cli.backends.detector import open_detector
detector = open_detector(Path(sys.argv[1]), "cpu")
height, width = detector.input_size
detector.detect(np.zeros((1, 3, height, width), np.uint8), [(height, width)])
del detector
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_there_is_one_core() -> None:
    assert openvino_core() is openvino_core()


def test_a_signal_after_the_last_detector_is_handled(
    write: Write, to_openvino: Callable[[Path], Path]
) -> None:
    model = to_openvino(write())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, model], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
