"""Where the files of a report go: new names, each file whole or not there."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from dfine_cli.bench.chart import write_chart
from dfine_cli.bench.markdown import to_markdown
from dfine_cli.bench.report import Report, to_json
from dfine_cli.errors import DfineError


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write ``DEVICE-DATE.json``, ``.md`` and, where something was measured, ``.png``; returns their paths.

    Nothing is written over: a name that is taken gets a number.

    Raises:
        DfineError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DfineError(
            f"{folder}: {error.strerror or error}", "choose another folder with --out"
        ) from error
    stem = _free_stem(folder, f"{_slug(report.environment.device)}-{report.created[:10]}")
    picture = folder / f"{stem}.png"
    writers: dict[Path, Callable[[Path], object]] = {
        folder / f"{stem}.json": lambda part: part.write_text(
            json.dumps(to_json(report), indent=2, default=str) + "\n", encoding="utf-8"
        ),
        folder / f"{stem}.md": lambda part: part.write_text(
            to_markdown(report, picture.name if report.rows else None), encoding="utf-8"
        ),
    }
    if report.rows:
        writers[picture] = lambda part: write_chart(report, part)
    for path, write in writers.items():
        _write_whole(path, write)
    return list(writers)


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise DfineError(f"{path}: {error.strerror or error}", "choose another folder with --out") from error


def _free_stem(folder: Path, stem: str) -> str:
    number, free = 1, stem
    while (folder / f"{free}.json").exists():
        number += 1
        free = f"{stem}-{number}"
    return free


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "device"
