"""Writing a report: a folder with page, JSON and Markdown, or one of the three."""

import json
from collections.abc import Callable
from pathlib import Path

from dfine_cli.data.layout import SplitFiles
from dfine_cli.errors import UsageError
from dfine_cli.evaluation.analysis_report import Subject, analysis_json, analysis_markdown
from dfine_cli.evaluation.explain import Explained
from dfine_cli.visualize.outcomes import ImageFolder
from dfine_cli.visualize.report_page import render_page
from dfine_cli.whole_file import write_whole

Writer = Callable[[Subject, Explained, SplitFiles], str]


def _page(subject: Subject, explained: Explained, files: SplitFiles) -> str:
    names = explained.analysis.matching.truth.file_names
    images = ImageFolder(names, files.images, files.json.parent) if files.images.is_dir() else None
    return render_page(subject, explained, images)


def _json(subject: Subject, explained: Explained, files: SplitFiles) -> str:
    return json.dumps(
        analysis_json(subject, explained.analysis, explained.comparison), indent=1, allow_nan=False
    )


def _markdown(subject: Subject, explained: Explained, files: SplitFiles) -> str:
    return analysis_markdown(subject, explained.analysis, explained.comparison)


WRITERS: dict[str, Writer] = {".html": _page, ".json": _json, ".md": _markdown}
"""Suffix of a file and what is written into it."""


def check_target(target: Path) -> None:
    """Refuse a place for a report before anything is computed.

    Raises:
        UsageError: It is neither a folder nor a file with a known suffix.
    """
    if target.suffix and target.suffix not in WRITERS and not target.is_dir():
        raise UsageError(
            f"--report {target}: a report is not written to `{target.suffix}` files",
            f"give a folder, or a file ending in {', '.join(WRITERS)}",
        )
    if not target.suffix and target.is_file():
        raise UsageError(f"--report {target}: is a file", "give a folder, or a file ending in .html")


def report_paths(target: Path | None) -> list[Path]:
    """The files that are written for a place of a report; none without a place."""
    if target is None:
        return []
    single = target.suffix in WRITERS and not target.is_dir()
    return [target] if single else [target / f"report{suffix}" for suffix in WRITERS]


def write_report(target: Path, subject: Subject, explained: Explained, files: SplitFiles) -> list[Path]:
    """Write a report; each file appears whole or not at all.

    Args:
        target: A file ending in a suffix of ``WRITERS``, or a folder that gets ``report`` with each of them.
        subject: What was scored on what.
        explained: What was found.
        files: Annotations and images; pictures are left out where the images are not there.

    Raises:
        DfineError: It cannot be written.
    """
    check_target(target)
    paths = report_paths(target)
    for path in paths:
        write_whole(path, WRITERS[path.suffix](subject, explained, files).encode(), "--report")
    return paths
