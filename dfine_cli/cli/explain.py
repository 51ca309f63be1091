"""What ``dfine eval`` says about results once they are there: tables, JSON, a report, the stored threshold."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfine_cli.cli.console import print_json, print_out, print_table, say

if TYPE_CHECKING:
    from dfine_cli.data.layout import SplitFiles
    from dfine_cli.evaluation.analysis_report import Subject
    from dfine_cli.evaluation.explain import Explained
    from dfine_cli.evaluation.results import Results
    from dfine_cli.evaluation.score import Scored
    from dfine_cli.evaluation.truth import Truth

_TABLES = (
    "metrics",
    "operating",
    "errors",
    "classes",
    "confusions",
    "label_errors",
    "comparison",
    "changed",
)
"""Tables that are printed, in this order; a report has all."""
_MOST = {"confusions": 10}
"""Rows of tables of which a terminal shows fewer than a report."""


def explain_results(
    subject: "Subject",
    truth: "Truth",
    files: "SplitFiles",
    results: "Results",
    *,
    other: "Results | None" = None,
    max_dets: int = 100,
    report: Path | None = None,
) -> "tuple[Explained, list[Path]]":
    """Analyse results, compare them with others, and write the report if one is wanted.

    Raises:
        DfineError: The results do not fit the annotations, or the report cannot be written.
    """
    from dfine_cli.evaluation.analysis import choose_max_dets
    from dfine_cli.evaluation.explain import explain

    explained = explain(truth, results, other, choose_max_dets(max_dets))
    if report is None:
        return explained, []
    from dfine_cli.visualize.report_files import write_report

    return explained, write_report(report, subject, explained, files)


def show_explained(subject: "Subject", explained: "Explained", extra: dict[str, Any], as_json: bool) -> None:
    """Print what was found: tables, or one JSON object."""
    from dfine_cli.evaluation.analysis_report import analysis_json, tables

    analysis, _, comparison = explained
    if as_json:
        print_json({**analysis_json(subject, analysis, comparison, full=False), **extra})
        return
    result = analysis.result
    print_out(f"{subject.data}: {result.images} images, {result.boxes} boxes, {result.detections} detections")
    shown = tables(analysis, comparison)
    for name in _TABLES:
        if name in shown:
            print_out(f"\n{shown[name].title}: {shown[name].note}")
            print_table(shown[name].rows[: _MOST.get(name)], shown[name].header)
    print_out(f"\n{shown['calibration'].title}: {shown['calibration'].note}")
    for note in analysis.notes:
        say(f"note: {note}")
    for name, value in extra.items():
        say(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


def load_results(source: Path, truth: "Truth", detect: "Callable[[Path], Scored]") -> "Results":
    """The results to compare with: those of a file, or of a model that is run now.

    Raises:
        DfineError: They cannot be had; ``read_checked`` and the detector say why.
    """
    from dfine_cli.evaluation.plausible import read_checked
    from dfine_cli.evaluation.results import to_columns

    if source.suffix == ".json":
        return read_checked(source, truth)
    return to_columns(detect(source).known_results)


def check_report(report: Path | None) -> None:
    """Refuse a place for a report before anything is computed.

    Raises:
        UsageError: Nothing can be written there.
    """
    if report is not None:
        from dfine_cli.visualize.report_files import check_target

        check_target(report)


def store_point(
    checkpoint: Path, explained: "Explained", files: "SplitFiles", names: Sequence[str]
) -> str | None:
    """Write the operating point into a checkpoint; gives its path, or None if there is no such point.

    Args:
        checkpoint: The file.
        explained: What was found.
        files: What it was found on.
        names: The classes of the checkpoint, of which the data may have only some.

    Raises:
        DfineError: The checkpoint cannot be read or written.
    """
    from dfine_cli.training.checkpoint import store_operating_point

    swept = explained.analysis.thresholds
    if swept.best is None:
        say("note: no detection is right, so there is no best threshold to store in the checkpoint")
        return None
    known = zip(explained.analysis.matching.truth.names, swept.class_best, strict=True)
    by_name = {name: point.threshold for name, point in known if point}
    classes = [by_name.get(name) for name in names]
    store_operating_point(
        checkpoint, {**swept.best._asdict(), "classes": classes, "annotations": str(files.json)}
    )
    return str(checkpoint)
