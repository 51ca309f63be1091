"""``dfine eval`` and ``visualize`` with exported files in place of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

COCO = "annotations/instances_val2017.json"


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [("femto", 416, (0.3667, 0.5134, 0.3924)), ("atto", 320, (0.2750, 0.3999, 0.2851))],
)
def test_real_detectors_score_what_they_should(
    run: Run, shared: Path, name: str, size: int, expected: tuple[float, ...]
) -> None:
    model = shared / f"weights/deimv2_hgnetv2_{name}_coco.onnx"
    code, out, err = run(
        "eval", model, shared / "data/coco_open", "--input-size", size, "--out", "found.json", "--json"
    )
    assert code == 0, err
    metrics = json.loads(out)["metrics"]
    assert [round(metrics[key], 4) for key in ("AP", "AP50", "AP75")] == list(expected)
    assert len(json.loads(Path("found.json").read_text())) == 66 * 300
