"""Where downloaded weights live, and what their content was when they were used first."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from dfine_cli.errors import CheckError
from dfine_cli.model.weights import WeightsEntry
from dfine_cli.whole_file import whole_file

HOME_VARIABLE = "DFINE_HOME"


def home() -> Path:
    """The folder that everything downloaded is kept in: ``DFINE_HOME``, or ``~/.cache/dfine``."""
    given = os.environ.get(HOME_VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "dfine"


def place_of(entry: WeightsEntry) -> Path:
    """Where the file of an entry lives, whether it is there or not."""
    return home() / "weights" / entry.file_name


def is_here(entry: WeightsEntry) -> bool:
    """Whether the file of an entry is there, and as long as it was when it was used first."""
    path = place_of(entry)
    record = _read_record(path)
    return path.is_file() and (record is None or path.stat().st_size == record["bytes"])


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def recorded_hash(path: Path) -> str | None:
    """The hash that a file had when it was used first; None before that."""
    record = _read_record(path)
    return None if record is None else str(record["sha256"])


def record_hash(path: Path, digest: str) -> None:
    """Keep the hash of a file for later checks."""
    with whole_file(_record_of(path)) as part:
        part.write_text(json.dumps({"sha256": digest, "bytes": path.stat().st_size}) + "\n")


def _read_record(path: Path) -> dict[str, object] | None:
    """What ``record_hash`` wrote about a file; None before that."""
    try:
        found = json.loads(_record_of(path).read_text())
        return {"sha256": found["sha256"], "bytes": found["bytes"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckError(
            f"{_record_of(path)}: cannot be read", "delete it; the weights are then checked as if new"
        ) from error


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
