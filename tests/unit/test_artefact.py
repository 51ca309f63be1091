import json
from pathlib import Path

import pytest

from dfine_cli.artefact import Artefact, BatchRange, read_sidecar, sidecar_of
from dfine_cli.errors import DfineError

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
    ],
)
def test_a_description_that_does_not_fit_is_refused(change: dict[str, object], word: str) -> None:
    text = json.dumps(json.loads(CELLS.to_json()) | change)
    with pytest.raises(DfineError, match=word) as failure:
        Artefact.from_json(text, Path("model.onnx"))
    assert "model.onnx" in failure.value.message


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "{}"])
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(DfineError, match="damaged"):
        Artefact.from_json(text, "model.onnx")
