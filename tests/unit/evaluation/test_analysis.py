"""All numbers of a report are the same in tables, JSON and Markdown, and odd results are noticed."""

import json
from pathlib import Path

import pytest

from dfine_cli.errors import DfineError
from dfine_cli.evaluation.analysis import analyse, choose_max_dets
from dfine_cli.evaluation.analysis_report import Subject, analysis_json, analysis_markdown, tables, verdict
from dfine_cli.evaluation.coco_eval import evaluate
from dfine_cli.evaluation.compare import Difference, compare
from dfine_cli.evaluation.results import to_columns
from dfine_cli.evaluation.truth import read_truth
from tests.unit.evaluation.scenes import BOX, CAT, DOG, FAR, crowd_of_images, noisy, result, truth

CONTENT = crowd_of_images()
SUBJECT = Subject("model", Path("val.json"), "other")


@pytest.fixture(scope="module")
def pair():
    known = read_truth(CONTENT)
    return [analyse(known, to_columns(noisy(CONTENT, seed))) for seed in (1, 2)]


@pytest.fixture(scope="module")
def comparison(pair):
    before, after = pair
    return compare(before.matching, after.matching, (before.images, after.images), resamples=50)


def test_json_and_tables_agree(pair, comparison):
    content = json.loads(json.dumps(analysis_json(SUBJECT, pair[1], comparison), allow_nan=False))
    shown = tables(pair[1], comparison)
    numbers = evaluate(CONTENT, noisy(CONTENT, 2)).numbers
    assert content["metrics"] == {name: None if value == -1 else value for name, value in numbers.items()}
    assert shown["operating"].rows == [tuple(f"{v:.4f}" for v in content["operating_point"].values())]
    for row in shown["errors"].rows:
        assert row[1:3] == (
            f"{100 * content['errors'][row[0]]['ap50_lost']:.2f}",
            str(content["errors"][row[0]]["count"]),
        )
    assert [row[0] for row in shown["classes"].rows] == [c["name"] for c in content["classes"]]
    assert shown["comparison"].rows[0][3] == f"{content['comparison']['ap']['change']:+.4f}"
    assert sum(map(sum, content["confusion"]["matrix"])) > 0
    assert [[*map(int, row[1:])] for row in shown["matrix"].rows] == content["confusion"]["matrix"]
    assert len(content["image_errors"]) == 20 and len(content["label_errors"]) == content["label_error_count"]
    assert {"curves", "confusion"} & analysis_json(SUBJECT, pair[1], full=False).keys() == set()


def test_markdown_has_every_table(pair, comparison):
    text, shown = analysis_markdown(SUBJECT, pair[1], comparison), tables(pair[1], comparison)
    for table in shown.values():
        assert f"## {table.title}\n\n{table.note}" in text
        assert all(len(row) == len(table.header) for row in table.rows)
    assert next(iter(shown)) == "comparison" and "comparison" not in tables(pair[1])


def test_no_detections_and_no_objects():
    known = read_truth(CONTENT)
    none = analyse(known, to_columns([]))
    assert none.notes == ("there are no detections",) and none.threshold == 0.5
    assert json.dumps(analysis_json(SUBJECT, none), allow_nan=False)
    assert "no detections" in analysis_markdown(SUBJECT, none)
    empty = analyse(read_truth(truth([])), to_columns([result(1, CAT, BOX, 0.9)]))
    assert "no objects" in empty.notes[0]
    assert json.dumps(analysis_json(SUBJECT, empty), allow_nan=False)
    assert analysis_markdown(SUBJECT, empty)
    assert analyse(read_truth(truth([], images=(), categories=())), to_columns([])).result.ap == -1


def test_swapped_classes_are_noticed():
    gt = truth([(1, CAT, BOX, 0), (1, DOG, FAR, 0)])
    swapped = to_columns([result(1, DOG, BOX, 0.9), result(1, CAT, FAR, 0.8)])
    assert "category ids" in analyse(read_truth(gt), swapped).notes[0]
    right = to_columns([result(1, CAT, BOX, 0.9), result(1, DOG, FAR, 0.8)])
    assert analyse(read_truth(gt), right).notes == ()


def test_far_too_many_detections_are_noticed():
    gt = truth([(1, CAT, BOX, 0)])
    many = to_columns([result(1, CAT, BOX, 0.5)] * 300)
    assert "200 of 300 detections do not count" in analyse(read_truth(gt), many).notes[0]
    assert analyse(read_truth(gt), many, choose_max_dets(300)).notes == ()


def test_unknown_images_are_refused():
    with pytest.raises(DfineError, match="image id"):
        analyse(read_truth(CONTENT), to_columns([result(999, CAT, BOX, 0.5)]))


def test_max_dets_keep_the_smaller_numbers_of_coco():
    assert [choose_max_dets(n) for n in (1, 5, 100, 300)] == [(1,), (1, 5), (1, 10, 100), (1, 10, 300)]
    analysis = analyse(read_truth(CONTENT), to_columns(noisy(CONTENT, 1)), choose_max_dets(5))
    assert [n for n in analysis.result.numbers if n.startswith("AR")] == ["AR1", "AR5", "ARs", "ARm", "ARl"]


@pytest.mark.parametrize(
    ("low", "high", "says"), [(0.01, 0.03, "gain is real"), (-0.03, -0.01, "loss is real"), (-0.01, 0.01, "no difference")]
)  # fmt: skip
def test_the_verdict_is_a_sentence(low, high, says):
    text = verdict(Difference("all classes", 0.5, 0.5 + (low + high) / 2, low, high, images=50), 0.95)
    assert says in text and "95% interval" in text
