"""One call from results to everything that is known about them, alone or beside other results."""

from typing import NamedTuple

from dfine_cli.evaluation.analysis import Analysis, analyse
from dfine_cli.evaluation.coco_eval import MAX_DETS
from dfine_cli.evaluation.compare import Comparison, compare
from dfine_cli.evaluation.results import Results
from dfine_cli.evaluation.truth import Truth


class Explained(NamedTuple):
    """An analysis, and what changed from other results if there are any."""

    analysis: Analysis
    other: Analysis | None
    """Of the results to compare with."""
    comparison: Comparison | None
    """From the other results to these."""


def explain(
    truth: Truth, results: Results, other: Results | None = None, max_dets: tuple[int, ...] = MAX_DETS
) -> Explained:
    """Analyse results, and compare them with ``other`` on the same ground truth.

    Raises:
        DfineError: Results name images or categories that the ground truth does not have.
    """
    analysis = analyse(truth, results, max_dets)
    if other is None:
        return Explained(analysis, None, None)
    before = analyse(truth, other, max_dets)
    images = before.images, analysis.images
    return Explained(analysis, before, compare(before.matching, analysis.matching, images))
