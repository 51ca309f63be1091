"""Packages that only some commands need."""

import importlib
from types import ModuleType

from dfine_cli.errors import MissingError


def need(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, or say which extra brings it.

    Args:
        module: Dotted name to import.
        extra: The extra of this package that installs it.

    Raises:
        MissingError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingError(f"{module} is not installed", f'pip install "dfine-cli[{extra}]"') from error
