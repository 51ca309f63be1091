"""Curves of a run."""

import numpy as np
import pytest
from PIL import Image

from dfine_cli.training.curves import EMA, PANELS, RAW, write_curves

FULL = [
    {"epoch": e, "loss": 30 - e, "lr": 1e-3, "ap_ema": e / 10, "ap_raw": e / 12, "ap50_ema": e / 6}
    for e in range(5)
]


def has(picture, colour):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(picture[..., :3].astype(int) - wanted).max(-1) <= 2).any())


@pytest.mark.parametrize(
    ("rows", "ema", "raw"),
    [
        (FULL, True, True),
        (FULL[:1], True, True),  # one epoch: a point, no line
        ([], False, False),
        ([{"epoch": 0, "loss": 3.0}], False, False),  # never scored
        ([{**FULL[0], "ap_raw": None}, {"epoch": 1, "loss": 2.0, "ap_ema": 0.3}], True, False),
    ],
)
def test_curves_show_what_the_rows_have(tmp_path, rows, ema, raw):
    file = tmp_path / "curves.png"
    write_curves(rows, file)
    picture = np.asarray(Image.open(file))
    assert picture.shape[1] > 400 * len(PANELS)
    assert (has(picture, EMA), has(picture, RAW)) == (ema, raw)


def test_writing_again_replaces_the_picture(tmp_path):
    file = tmp_path / "curves.png"
    write_curves(FULL[:1], file)
    first = file.read_bytes()
    write_curves(FULL, file)
    assert file.read_bytes() != first
