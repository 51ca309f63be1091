"""The TensorRT module, what it says while it works, and what that means."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dfine_cli.backends.cuda import EXTRA
from dfine_cli.errors import MissingError
from dfine_cli.optional import need
from dfine_cli.whole_file import whole_file

OLDEST = 10
"""Major version that strongly typed networks with 64-bit integers begin with."""
SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
"""TensorRT's own names, worst first."""


class Line(NamedTuple):
    """One message."""

    severity: str
    """One of ``SEVERITIES``."""
    text: str


class Log:
    """Everything that TensorRT said, in order."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def texts(self, *severities: str) -> list[str]:
        """Messages of these severities, each once."""
        return list(dict.fromkeys(line.text for line in self.lines if line.severity in severities))

    @property
    def errors(self) -> list[str]:
        """What went wrong."""
        return self.texts("INTERNAL_ERROR", "ERROR")

    @property
    def warnings(self) -> list[str]:
        """What may be wrong."""
        return self.texts("WARNING")

    def last_error(self) -> str:
        """The last error in one short line; empty if there is none."""
        found = self.errors[-1:] or [""]
        text = " ".join(found[0].split())
        return text if len(text) <= 300 else f"{text[:300]}…"

    def find(self, pattern: str) -> re.Match[str] | None:
        """The first error that matches."""
        return next((found for text in self.errors if (found := re.search(pattern, text))), None)

    def write(self, path: Path) -> None:
        """Leave the log as a text file; an empty one where nothing was said."""
        with whole_file(path) as part:
            part.write_text(
                "".join(f"{line.severity:14} {line.text}\n" for line in self.lines), encoding="utf-8"
            )


def import_tensorrt() -> ModuleType:
    """The module ``tensorrt``.

    Raises:
        MissingError: It is not installed, cannot be loaded, or is too old.
    """
    try:
        trt = need("tensorrt", extra=EXTRA)
    except MissingError:
        raise
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingError(
            f"tensorrt is installed but cannot be loaded: {' '.join(str(error).split())[:200]}",
            f'install the build for your CUDA version, or again: pip install "dfine-cli[{EXTRA}]"',
        ) from error
    version = str(getattr(trt, "__version__", "0"))
    if int(version.split(".")[0]) < OLDEST:
        raise MissingError(
            f"tensorrt {version} is installed, {OLDEST}.0 or newer is needed",
            f'pip install --upgrade "dfine-cli[{EXTRA}]"',
        )
    return trt


def listen(trt: ModuleType, log: Log) -> Any:
    """A logger of TensorRT that keeps all but its verbose messages in ``log``."""
    names = {getattr(trt.ILogger, name): name for name in SEVERITIES}

    class Listener(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if names[severity] != "VERBOSE":
                log.lines.append(Line(names[severity], msg))

    return Listener()


def start(make: Callable[[Any], Any], logger: Any, log: Log) -> Any:
    """A builder or runtime of TensorRT.

    Args:
        make: ``tensorrt.Builder`` or ``tensorrt.Runtime``.
        logger: What ``listen`` gave for ``log``.
        log: Where TensorRT says why it cannot.

    Raises:
        MissingError: TensorRT cannot use the GPU or the driver.
    """
    try:
        return make(logger)
    except TypeError as error:  # how its bindings tell that they got nothing
        raise MissingError(
            f"TensorRT cannot start: {log.last_error() or error}",
            "see what `nvidia-smi` says; TensorRT needs a GPU of NVIDIA and a driver for its CUDA version",
        ) from error
