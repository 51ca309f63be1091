"""The one rule of evaluation preprocessing."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfine_cli.data.images import read_image
from dfine_cli.data.preprocess import Preprocessing, resize, to_unit


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (320, 256)])  # smaller, wider, larger and taller
def test_is_pillow_bilinear_over_255(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    height, width = size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    result = resize(image, size)
    assert (result.shape, result.dtype) == ((3, height, width), np.uint8)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, np.asarray(resized).transpose(2, 0, 1))
    assert to_unit(result).dtype == np.float32
    np.testing.assert_allclose(to_unit(result), result / 255, rtol=1e-6)  # float32


def test_same_size_changes_only_the_scale() -> None:
    image = np.array([[[0, 51, 255]]], np.uint8).repeat(32, 0).repeat(32, 1)
    assert Preprocessing((32, 32))(image)[:, 5, 5].tolist() == pytest.approx([0, 0.2, 1])


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = Preprocessing((16, 16))(stripes)[:, :, 2:-2]
    assert np.abs(inner - 0.5).max() < 0.05  # without antialiasing all would be 0 or all 1


def test_the_description_is_plain_and_complete() -> None:
    rule = Preprocessing((320, 416))
    assert json.loads(json.dumps(rule.describe())) == rule.describe()
    assert rule.describe()["size"] == [320, 416]
    assert rule.describe()["keep_aspect_ratio"] is False


def test_the_object_and_the_functions_agree(shared: Path) -> None:
    image = read_image(shared / "data/bccd/val/BloodImage_00000.jpg")
    np.testing.assert_array_equal(Preprocessing((320, 320))(image), to_unit(resize(image, (320, 320))))
