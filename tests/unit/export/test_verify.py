"""Comparison of detections: pairs, what counts, and when a proof fails."""

from __future__ import annotations

import numpy as np
import pytest

from dfine_cli.artefact import BatchRange
from dfine_cli.errors import CheckError
from dfine_cli.export.agreement import LIMITS, Agreement, compare, limits_of, sure_of
from dfine_cli.export.proof_images import ProofImages
from dfine_cli.export.verify import Proof, prove
from dfine_cli.types import Detections

LOOSE = LIMITS["int8"]


def detections(*rows) -> Detections:
    """Rows of (x1, y1, x2, y2, score, label)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


A, B, C = (0, 0, 10, 10, 0.9, 0), (50, 50, 80, 90, 0.9, 1), (20, 20, 30, 30, 0.6, 0)


def test_equal_detections_agree():
    same = detections(A, B, C)
    assert compare([(same, same)], LOOSE) == Agreement(3, 0, 0.0, 0.0)


def test_equal_scores_may_change_places():
    assert compare([(detections(A, B, C), detections(B, A, C))], LOOSE) == Agreement(3, 0, 0.0, 0.0)


def test_the_largest_differences_are_told():
    moved = (0, 0, 10.5, 10, 0.8, 0)
    found = compare([(detections(A, B), detections(B, moved)), (detections(C), detections(C))], LOOSE)
    assert found.compared == 3 and found.missed == 0
    assert found.box_px == pytest.approx(0.5) and found.score == pytest.approx(0.1)


@pytest.mark.parametrize(
    "other",
    [
        (0, 0, 10, 10, 0.9, 2),  # another class
        (0, 0, 10, 4, 0.9, 0),  # hardly there
        (200, 200, 210, 210, 0.9, 0),
        (np.nan, 0, 10, 10, 0.9, 0),
        (0, 0, 10, 10, np.nan, 0),
    ],
)
def test_what_is_not_found_again_is_counted_and_not_measured(other):
    found = compare([(detections(A, B), detections(other, B))], LOOSE)
    assert found == Agreement(2, 1, 0.0, 0.0, int(np.isnan(other).any()))


def test_two_detections_are_not_found_in_one():
    assert compare([(detections(A, A), detections(A))], LOOSE).missed == 1


def test_only_what_the_first_is_sure_of_counts():
    unsure = (100, 100, 120, 120, 0.44, 0)
    assert sure_of(detections(A, C, unsure)) == 2
    assert compare([(detections(A, unsure), detections(A))], LOOSE) == Agreement(1, 0, 0.0, 0.0)


def test_images_without_detections():
    assert compare([(detections(), detections(A)), (detections(A), detections())], LOOSE) == Agreement(
        1, 1, 0.0, 0.0
    )
    assert compare([], LOOSE) == Agreement(0, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("precision", "on_gpu", "score", "edge", "again"),
    [
        ("fp32", False, 0.9 + 8e-6, 10.0002, True),
        ("fp32", False, 0.89, 10, False),
        ("fp32", False, 0.9, 11, False),
        ("fp32", True, 0.89, 10, True),
        ("fp16", False, 0.891, 10.6, True),
        ("fp16", True, 0.8, 10, False),
        ("fp16", False, 0.9, 14, False),
        ("int8", False, 0.75, 14, True),
        ("int8", False, 0.6, 10, False),
    ],
)
def test_how_near_is_near_enough_depends_on_the_precision(precision, on_gpu, score, edge, again):
    found = compare([(detections(A), detections((0, 0, 10, edge, score, 0)))], limits_of(precision, on_gpu))
    assert found.missed == (not again)
    assert found.score == pytest.approx(abs(score - 0.9), abs=1e-6)  # also of what is too far


def proof(ap=0.5, ap_artefact=0.5, compared=100, missed=0, not_numbers=0, batches=None) -> Proof:
    agreement = Agreement(compared, missed, 0.0, 0.0, not_numbers)
    return Proof("pictures", 3, agreement, ap, ap_artefact, 0.001, batches or {})


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
        (proof(missed=50), True),  # AP decides
        (proof(ap=0.0, ap_artefact=0.0, missed=5), True),
        (proof(ap=0.0, ap_artefact=0.0, missed=6), False),  # there was no AP to lose
        (proof(not_numbers=1), False),
        (proof(batches={4: Agreement(20, 1, 0.0, 0.0)}), True),
        (proof(batches={4: Agreement(20, 2, 0.0, 0.0)}), False),
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


class Drawn:
    """A detector that finds one thing in a picture, and something else in all but the first of a pass."""

    input_size, exif = (32, 32), "apply"

    def __init__(self, wrong_score=None):
        self.wrong_score = wrong_score
        self.passes = []

    def detect(self, images, sizes):
        self.passes.append(len(images))
        means = images.mean((1, 2, 3)) / 255
        if self.wrong_score is not None:
            means[1:] = self.wrong_score
        return [detections((0, 0, 10, 10, mean, 0)) for mean in means]


@pytest.mark.parametrize(
    ("wrong_score", "batch", "holds", "passes"),
    [
        (None, BatchRange(1, 1, 1), True, set()),
        (None, BatchRange(1, 4, 16), True, {4, 16}),
        (0.01, BatchRange(1, 4, 16), False, {4, 16}),
        (np.nan, BatchRange(1, 2, 2), False, {2}),
        (None, BatchRange(1, 8, 1000), True, {8, 32}),
        (0.01, BatchRange(1, 1, 1), True, set()),
    ],
)
def test_an_open_batch_is_tried_in_full_passes(wrong_score, batch, holds, passes):
    file = Drawn(wrong_score)
    made = prove(
        Drawn(), file, ProofImages(None, "drawn", 8), limits=LIMITS["fp32"], max_drop=0.001, batch=batch
    )
    assert made.holds is holds and set(made.batches) == passes == set(file.passes) - {1}
    assert made.to_json()["batches"].keys() == {str(count) for count in passes}
    if not holds:
        with pytest.raises(CheckError, match=f"in a pass of {min(passes)} images it says something else"):
            made.require("x.failed.onnx")
