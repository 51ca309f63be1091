import subprocess
import sys

import pytest

from dfine_cli.model.hgnetv2 import VARIANTS
from dfine_cli.model.sizes import SIZES, ModelSize

ROWS = list(SIZES.values())


def test_names_in_order():
    assert list(SIZES) == ["n", "s", "m", "l", "x"]
    assert [row.name for row in ROWS] == list(SIZES)


@pytest.mark.parametrize("row", ROWS, ids=list(SIZES))
def test_levels_agree(row: ModelSize):
    stages = VARIANTS[row.backbone].stages
    assert row.in_channels == tuple(stages[i].outputs for i in row.return_stages)
    assert row.strides == tuple(2 ** (i + 2) for i in row.return_stages)
    assert row.levels == len(row.points) == len(row.in_channels)


@pytest.mark.parametrize("row", ROWS, ids=list(SIZES))
def test_every_cell_gets_twelve_points(row: ModelSize):
    assert sum(row.points) == 12


def test_parameters_grow_with_the_size():
    counts = [row.parameters for row in ROWS]
    assert counts == [3_782_693, 10_321_877, 19_590_064, 31_244_152, 62_621_560]


def test_decoder_of_x_is_narrower_than_its_encoder():
    """The paper says 384 and 2048, the published weights have these."""
    x = SIZES["x"]
    assert (x.hidden, x.decoder_hidden) == (384, 256)
    assert (x.feedforward, x.decoder_feedforward) == (2048, 1024)
    assert x.reg_scale == 8


def test_listing_sizes_needs_no_torch():
    code = "import sys, dfine_cli.model.sizes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
