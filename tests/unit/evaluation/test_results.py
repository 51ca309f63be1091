"""Results of other tools: read, and refused with a reason where they are not what they should be."""

import json

import numpy as np
import pytest

from dfine_cli.errors import CheckError, DfineError, UsageError
from dfine_cli.evaluation.plausible import check_values, written_as_corners
from dfine_cli.evaluation.results import Results, read_results, require_known_ids, to_columns
from dfine_cli.evaluation.truth import read_truth
from tests.unit.evaluation.scenes import BOX, CAT, crowd_of_images, noisy, result, truth

CONTENT = crowd_of_images()
KNOWN = read_truth(CONTENT)
FOUND = noisy(CONTENT, 1, extra=5)


def with_boxes(change):
    """Results with ``change`` (of x, y, width, height) for boxes."""
    return to_columns([{**r, "bbox": change(*map(float, r["bbox"]))} for r in FOUND])


def test_a_file_gives_the_same_columns_as_its_content(tmp_path):
    content = [
        result(1, CAT, (1, 2.5, 3, 4), 1),
        {**result(2, CAT, BOX, 0.25), "segmentation": {"size": [1, 2]}},
    ]
    (tmp_path / "r.json").write_text(json.dumps(content))
    read, made = read_results(tmp_path / "r.json"), to_columns(content)
    for a, b in zip(read, made, strict=True):
        assert np.array_equal(a, b) and a.dtype == b.dtype


def test_no_results_are_results(tmp_path):
    (tmp_path / "r.json").write_text("[]")
    assert read_results(tmp_path / "r.json").boxes_xywh.shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("[{", "not a JSON file"),
        ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": NaN}]', "not a JSON file"),
        ('{"annotations": []}', "not COCO results"),
        ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3], "score": 1}]', r"length 4 .*\[0\]\.bbox"),
        ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}]', "`score`"),
        ('[{"image_id": "a", "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}]', "image_id"),
        ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 1e999], "score": 1}]', r"out of range"),
    ],
)  # fmt: skip
def test_wrong_files(tmp_path, text, message):
    file = tmp_path / "r.json"
    file.write_text(text)
    with pytest.raises(DfineError, match=message) as error:
        read_results(file)
    assert error.value.hint or "result 0" in error.value.message


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_results(tmp_path / "gone.json")
    with pytest.raises(DfineError, match=str(tmp_path)):
        read_results(tmp_path)


def test_class_indices_in_place_of_ids_are_recognised():
    columns = to_columns([result(0, 0, BOX, 0.5), result(0, 1, BOX, 0.5)])
    with pytest.raises(DfineError, match=r"2 category id\(s\)") as error:
        require_known_ids(columns, KNOWN)
    assert "class indices 0 to 1" in error.value.hint


def test_good_results_pass():
    check_values(to_columns(FOUND), KNOWN)
    check_values(to_columns([]), KNOWN)
    check_values(to_columns([result(0, CAT, BOX, 1.0)]), read_truth(truth([], images=(0,))))


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "x1, y1, x2, y2"),
        (lambda x, y, w, h: [x / 200, y / 200, w / 200, h / 200], "fractions of the image"),
    ],
)
def test_other_ways_to_write_boxes_are_recognised(write, message, odd):
    """Also with a box among hundreds that cannot be read so."""
    columns = Results(*(np.concatenate([column] * 5) for column in with_boxes(write)))
    columns.boxes_xywh[:odd] = [90, 90, 10, 10]
    with pytest.raises(CheckError, match=message):
        check_values(columns, KNOWN)


@pytest.mark.parametrize(("degenerate", "doubted"), [(0, True), (1, True), (9, False)])
def test_annotations_written_as_corners(degenerate, doubted):
    rows = [(0, CAT, (120, 120, 180, 180), 0)] * (150 - degenerate) + [
        (0, CAT, (50, 50, 50, 50), 0)
    ] * degenerate
    assert written_as_corners(read_truth(truth(rows, images=(0,)))) == doubted


def test_objects_in_the_corner_are_not_taken_for_corners():
    """Every box is wider and higher than it is far from the corner, but it lies where it should."""
    content = truth([(1, CAT, (5, 5, 60, 60), 0), (1, CAT, (2, 3, 90, 20), 0)])
    check_values(
        to_columns([result(1, CAT, a["bbox"], 0.9) for a in content["annotations"]]), read_truth(content)
    )


def test_bad_detectors_are_not_taken_for_corners():
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0, 50, (200, 2)), rng.uniform(50, 150, (200, 2))])
    check_values(to_columns([result(i % 20, CAT, b, 0.5) for i, b in enumerate(boxes.tolist())]), KNOWN)


@pytest.mark.parametrize("bbox", [[1, 1, -5, -5], [20, 20, 0, 10]])
def test_boxes_without_an_area(bbox):
    with pytest.raises(
        CheckError, match=r"best boxes have no width or height, such as \[.*, -?\d+\]"
    ) as error:
        check_values(with_boxes(lambda *_: bbox), KNOWN)
    assert "upper left" in error.value.hint
    some = [{**FOUND[0], "bbox": bbox, "score": 0.0}] * 5
    check_values(to_columns([*FOUND, *some]), KNOWN)


def test_boxes_beyond_any_image():
    far = {**FOUND[3], "bbox": [1, 1, 1e300, 1e300]}
    with pytest.raises(CheckError, match=r"1 of \d+ boxes reach beyond any image.*1e\+300\] at result 3"):
        check_values(to_columns([*FOUND[:3], far, *FOUND[4:]]), KNOWN)


@pytest.mark.parametrize("score", [-0.1, 1.001, 87.0])
def test_scores_outside_0_to_1(score):
    with pytest.raises(CheckError, match=r"1 of \d+ scores are outside 0\.\.1.*at result 3") as error:
        check_values(to_columns([*FOUND[:3], {**FOUND[3], "score": score}, *FOUND[4:]]), KNOWN)
    assert "sigmoid" in error.value.hint
