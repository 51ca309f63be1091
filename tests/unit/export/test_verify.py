"""Comparison of detections: pairs, what counts, and when a proof fails."""

from __future__ import annotations

import numpy as np
import pytest

from dfine_cli.errors import CheckError
from dfine_cli.export.verify import Agreement, Proof, compare, sure_of
from dfine_cli.types import Detections


def detections(*rows) -> Detections:
    """Rows of (x1, y1, x2, y2, score, label)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


A, B, C = (0, 0, 10, 10, 0.9, 0), (50, 50, 80, 90, 0.9, 1), (20, 20, 30, 30, 0.6, 0)


def test_equal_detections_agree():
    same = detections(A, B, C)
    assert compare([(same, same)]) == Agreement(3, 0, 0.0, 0.0)


def test_equal_scores_may_change_places():
    assert compare([(detections(A, B, C), detections(B, A, C))]) == Agreement(3, 0, 0.0, 0.0)


def test_the_largest_differences_are_told():
    moved = (0, 0, 10.5, 10, 0.8, 0)
    found = compare([(detections(A, B), detections(B, moved)), (detections(C), detections(C))])
    assert found.compared == 3 and found.missed == 0
    assert found.box_px == pytest.approx(0.5) and found.score == pytest.approx(0.1)


@pytest.mark.parametrize(
    "other",
    [
        (0, 0, 10, 10, 0.9, 2),  # another class
        (0, 0, 10, 4, 0.9, 0),  # hardly there
        (200, 200, 210, 210, 0.9, 0),
        (np.nan, 0, 10, 10, 0.9, 0),
    ],
)
def test_what_is_not_found_again_is_counted_and_not_measured(other):
    assert compare([(detections(A, B), detections(other, B))]) == Agreement(2, 1, 0.0, 0.0)


def test_two_detections_are_not_found_in_one():
    assert compare([(detections(A, A), detections(A))]).missed == 1


def test_only_what_the_first_is_sure_of_counts():
    unsure = (100, 100, 120, 120, 0.44, 0)
    assert sure_of(detections(A, C, unsure)) == 2
    assert compare([(detections(A, unsure), detections(A))]) == Agreement(1, 0, 0.0, 0.0)


def test_images_without_detections():
    assert compare([(detections(), detections(A)), (detections(A), detections())]) == Agreement(
        1, 1, 0.0, 0.0
    )
    assert compare([]) == Agreement(0, 0, 0.0, 0.0)


def proof(ap=0.5, ap_artefact=0.5, compared=100, missed=0) -> Proof:
    return Proof("pictures", 3, Agreement(compared, missed, 0.0, 0.0), ap, ap_artefact, 0.001)


@pytest.mark.parametrize(
    ("made", "holds"),
    [
        (proof(), True),
        (proof(ap_artefact=0.4991), True),
        (proof(ap_artefact=0.499), True),  # exactly what is allowed
        (proof(ap_artefact=0.4989), False),
        (proof(ap_artefact=0.6), True),
        (proof(ap=None, ap_artefact=None, missed=5), True),
        (proof(ap=None, ap_artefact=None, missed=6), False),
    ],
)
def test_when_a_proof_holds(made, holds):
    assert made.holds is holds
    if holds:
        made.require("file")
    else:
        with pytest.raises(CheckError) as stop:
            made.require("x.failed.onnx")
        assert "x.failed.onnx" in stop.value.hint and stop.value.exit_code == 4
