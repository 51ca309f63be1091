"""The one ``Core`` of OpenVINO in a process."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from dfine_cli.optional import need


def openvino_core() -> Any:
    """OpenVINO's ``Core``, which is never let go of.

    Its CPU plugin gives the thread another stack for signal handlers and frees it with the last ``Core`` while it is
    in use, so that the next signal, be it Ctrl-C or a worker that ends, would end the process.

    Raises:
        MissingError: OpenVINO is not installed.
    """
    return _start(need("openvino", extra="openvino"))


@functools.cache
def _start(openvino: ModuleType) -> Any:
    return openvino.Core()
