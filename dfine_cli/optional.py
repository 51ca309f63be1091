"""Packages that only some commands need."""

import importlib
from types import ModuleType

from dfine_cli.errors import MissingError


def need(module: str, *, extra: str | None = None) -> ModuleType:
    """Import ``module``, or say what brings it.

    Args:
        module: Dotted name to import.
        extra: The extra of this package that installs it; None for what comes with the package itself.

    Raises:
        MissingError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        package = module if extra is None else f'"dfine-cli[{extra}]"'
        raise MissingError(f"{module} is not installed", f"pip install {package}") from error
