"""Tables and JSON of an evaluation."""

import json

from dfine_cli.evaluation.average_precision import UNDEFINED
from dfine_cli.evaluation.coco_eval import ClassResult, EvalResult
from dfine_cli.evaluation.report import CLASS_HEADER, class_rows, metric_rows, to_json, to_markdown

RESULT = EvalResult(
    numbers={"AP": 0.51234, "AP50": 0.75, "APs": UNDEFINED, "AR100": 0.6},
    classes=(
        ClassResult(3, "disc", 0.5, 0.7, images=4, boxes=9, detections=30),
        ClassResult(41, "a|b", UNDEFINED, UNDEFINED, images=0, boxes=0, detections=2),
    ),
    images=10,
    boxes=9,
    detections=32,
)


def test_metric_rows_say_what_each_number_means():
    rows = {name: (value, meaning) for name, value, meaning in metric_rows(RESULT)}
    assert rows["AP"] == ("0.5123", "IoU 0.50:0.95")
    assert rows["APs"][0] == "-"
    assert "at most 100 detections" in rows["AR100"][1]


def test_class_rows_fit_their_header():
    rows = class_rows(RESULT)
    assert {len(row) for row in rows} == {len(CLASS_HEADER)}
    assert rows[0] == ("disc", "3", "4", "9", "30", "0.5000", "0.7000")
    assert rows[1][-2:] == ("-", "-")


def test_json_is_plain_and_has_null_for_undefined():
    content = json.loads(json.dumps(to_json(RESULT), allow_nan=False))
    assert content["schema_version"] == 1
    assert content["metrics"] == {"AP": 0.51234, "AP50": 0.75, "APs": None, "AR100": 0.6}
    assert content["classes"][0]["category_id"] == 3
    assert content["classes"][1]["ap"] is None


def test_markdown_has_both_tables_and_escapes_names():
    text = to_markdown(RESULT)
    assert "| AP | 0.5123 | IoU 0.50:0.95 |" in text
    assert r"a\|b" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len(table) for table in tables] == [2 + 4, 2 + 2]
