"""Class maps as users give them: a file, or entries on the command line."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from dfine_cli.config.yaml12 import read_yaml
from dfine_cli.errors import UsageError

_HINT = "a class map is mine=theirs, or a file with a line `mine: theirs` for each class"


def gather_class_map(given: Sequence[str]) -> list[str]:
    """``mine=theirs`` entries, those in files among them.

    Args:
        given: Entries, or paths of YAML or JSON files with a mapping of own classes to classes of the weights.

    Raises:
        UsageError: A file is missing or holds something else.
    """
    entries: list[str] = []
    for text in given:
        if "=" in text and not Path(text).is_file():
            entries.append(text)
        else:
            entries += _read(Path(text))
    return entries


def _read(path: Path) -> list[str]:
    try:
        content, _ = read_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"--class-map {path}: no such file", _HINT) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--class-map {path}: cannot be read: {reason}", _HINT) from None
    if not isinstance(content, dict) or any(isinstance(v, dict | list) for v in content.values()):
        raise UsageError(f"--class-map {path}: is not a mapping of names to names", _HINT)
    return [f"{mine}={'none' if theirs is None else theirs}" for mine, theirs in content.items()]
