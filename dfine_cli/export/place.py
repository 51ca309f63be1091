"""Where an exported file goes, so that nothing half-made is there and nothing of others is lost."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfine_cli.artefact import read_sidecar, sidecar_of
from dfine_cli.errors import DfineError, UsageError
from dfine_cli.zoo.cache import home

FAILED = "failed"
"""Between stem and suffix of a file whose proof failed."""


def default_place(weights: Path, name: str) -> Path:
    """The ``export`` folder of the run, else the folder of the checkpoint; the current one for pulled weights."""
    if home() in weights.parents:
        return Path(name)
    run = weights.parent.parent
    return run / "export" / name if (run / "recipe.yaml").is_file() else weights.with_name(name)


def check_place(file: Path, suffix: str, *, force: bool) -> None:
    """Refuse a file that could not be written, or should not be.

    Args:
        file: What is to be written.
        suffix: What its name must end with.
        force: Whether anything that is there may be replaced.

    Raises:
        UsageError: It is a folder, has another suffix, or is there and not an export of ours.
    """
    if file.is_dir():
        raise UsageError(f"{file}: is a folder", f"name a file: --out {file / f'model{suffix}'}")
    if file.suffix.lower() != suffix:
        raise UsageError(f"--out {file}: must end with {suffix}", f"for example {file.with_suffix(suffix)}")
    if file.exists() and not force and not _is_ours(file):
        raise UsageError(
            f"{file}: is there already, and not an export of dfine",
            "choose another name with --out, or replace it with --force",
        )


def _is_ours(file: Path) -> bool:
    with contextlib.suppress(DfineError):
        return read_sidecar(file) is not None
    return False


@contextmanager
def workshop(file: Path) -> Iterator[Path]:
    """A folder beside ``file`` that is gone afterwards, whatever happens.

    Raises:
        DfineError: It cannot be made, or the disk is full.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{file.stem}-", suffix=".part", dir=file.parent))
    except OSError as error:
        raise DfineError(
            f"{file.parent}: {error.strerror or error}", "choose another place with --out"
        ) from error
    try:
        yield folder
    except OSError as error:
        raise DfineError(
            f"{file}: {error.strerror or error}", "free some space, or choose another place with --out"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def failed_name(file: Path) -> Path:
    """``model.failed.onnx`` for ``model.onnx``."""
    return file.with_name(f"{file.stem}.{FAILED}{file.suffix}")


def move(file: Path, place: Path) -> list[Path]:
    """Move a file and all that belongs to it; the file itself comes last.

    Args:
        file: In the workshop, where nothing else has its stem.
        place: Where it is to be.

    Returns:
        The new paths, the file itself first.
    """
    moved: list[Path] = []
    others = [other for other in sorted(file.parent.iterdir()) if other != file]
    for part in [*others, file]:
        target = place.with_name(place.stem + part.name.removeprefix(file.stem))
        part.replace(target)
        moved.insert(0, target)
    return moved


def clear(place: Path) -> None:
    """Take away what an earlier export of this name left: its files, or those of a failed proof."""
    for old in (place, failed_name(place)):
        if _is_ours(old):
            for part in (old, sidecar_of(old), old.with_suffix(".bin") if old.suffix == ".xml" else old):
                part.unlink(missing_ok=True)
