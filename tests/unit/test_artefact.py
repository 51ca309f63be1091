import json
from pathlib import Path
from typing import get_args

import pytest

from dfine_cli.artefact import PRECISIONS, RULES, Artefact, BatchRange, read_sidecar, sidecar_of
from dfine_cli.errors import CheckError, DfineError

CELLS = Artefact(
    name="dfine-n",
    size="n",
    contract="published",
    input_size=(320, 416),
    batch=BatchRange(1, 4, 16),
    classes={"names": ["red", "white"], "category_ids": [3, 7], "rule": "auto"},
    preprocessing={"size": [320, 416]},
)


def test_a_description_comes_back_equal() -> None:
    assert Artefact.from_json(CELLS.to_json(), "x") == CELLS


def test_the_sidecar_keeps_the_suffix_so_that_two_formats_do_not_share_one(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    assert read_sidecar(file) is None
    sidecar_of(file).write_text(CELLS.to_json())
    assert sidecar_of(file).name == "model.onnx.json"
    assert read_sidecar(file) == CELLS


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema_version": 99}, "version 99"),
        ({"batch": [1]}, "damaged"),
        ({"colour": 1}, "damaged"),
        ({"batch": ["a", "b", "c"]}, "batch must be the least, usual and most images"),
        ({"batch": [4, 2, 1]}, "batch must be"),
        ({"batch": [True, True, True]}, "batch must be"),
        ({"input_size": [320]}, "input_size must be a height and a width"),
        ({"classes": {}}, "classes must be"),
        ({"classes": "x"}, "classes must be"),
        ({"classes": {"names": ["red"], "category_ids": [3, 7], "rule": "auto"}}, "as many names as"),
        ({"classes": {"names": [1], "category_ids": [3], "rule": "auto"}}, "classes must be"),
        ({"precision": "fp4"}, "precision must be one of fp32, fp16, int8"),
        ({"contract": ["published"]}, "contract must be one of"),
        ({"exif": None}, "exif must be"),
        ({"operating_point": {"threshold": "high"}}, "operating_point must be"),
        ({"runtime": {"bytes": "many"}}, "runtime must be"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(change: dict[str, object], word: str) -> None:
    text = json.dumps(json.loads(CELLS.to_json()) | change)
    with pytest.raises(DfineError, match=word) as failure:
        Artefact.from_json(text, Path("model.onnx"))
    assert "model.onnx" in failure.value.message and "export the checkpoint again" in failure.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "{}"])
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(DfineError, match="damaged"):
        Artefact.from_json(text, "model.onnx")


def test_a_sidecar_that_is_no_text_is_refused(tmp_path: Path) -> None:
    sidecar_of(tmp_path / "model.onnx").write_bytes(CELLS.to_json().encode("utf-16"))
    with pytest.raises(
        CheckError, match=r"model\.onnx\.json: its description is damaged \(it is no UTF-8"
    ) as stop:
        read_sidecar(tmp_path / "model.onnx")
    assert stop.value.hint


def test_what_can_be_read_is_what_can_be_written() -> None:
    from dfine_cli.data.classes import Remap
    from dfine_cli.export import precision

    assert get_args(Remap) == RULES and set(PRECISIONS) == set(precision.PRECISIONS)
