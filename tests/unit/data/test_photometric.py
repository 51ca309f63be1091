"""Photometric distortion against each part's formula."""

import colorsys
from typing import Any

import numpy as np
import pytest

from dfine_cli.data.photometric import PhotometricDistort

NEUTRAL: dict[str, Any] = {
    "brightness": 1.0,
    "contrasts": (1.0, 1.0),
    "saturation": 1.0,
    "hue": 0.0,
    "order": [0, 1, 2],
}
# Values in the middle, so that no part clips.
IMAGE = np.random.default_rng(0).integers(70, 180, (40, 50, 3), dtype=np.uint8)


def grey(pixels: np.ndarray) -> np.ndarray:
    return pixels @ (0.299, 0.587, 0.114)


def brighter(pixels: np.ndarray, factor: float) -> np.ndarray:
    return pixels * factor


def contrasted(pixels: np.ndarray, factor: float) -> np.ndarray:
    return factor * pixels + (1 - factor) * grey(pixels).mean()


def saturated(pixels: np.ndarray, factor: float) -> np.ndarray:
    return factor * pixels + (1 - factor) * grey(pixels)[..., None]


def distort(**parts: Any) -> np.ndarray:
    return PhotometricDistort().apply(IMAGE, **{**NEUTRAL, **parts}).astype(float)


def test_channels_are_swapped_only_if_asked_for() -> None:
    for swap in (True, False):
        transform = PhotometricDistort(1.0, swap)
        transform.set_random_seed(0)
        orders = [transform.get_params()["order"] for _ in range(20)]
        assert (orders != [[0, 1, 2]] * 20) is swap


def test_neutral_values_change_nothing() -> None:
    assert np.array_equal(distort(), IMAGE)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"brightness": 1.1}, brighter(IMAGE, 1.1)),
        ({"contrasts": (0.6, 1.0)}, contrasted(IMAGE, 0.6)),
        ({"contrasts": (1.0, 1.3)}, contrasted(IMAGE, 1.3)),
        ({"saturation": 0.5}, saturated(IMAGE, 0.5)),
        ({"order": [2, 0, 1]}, IMAGE[..., [2, 0, 1]]),
        (
            {"brightness": 0.9, "contrasts": (1.2, 1.0), "saturation": 1.2, "order": [1, 0, 2]},
            saturated(contrasted(brighter(IMAGE, 0.9), 1.2), 1.2)[..., [1, 0, 2]],
        ),
        (
            {"brightness": 0.9, "contrasts": (1.0, 1.2), "saturation": 0.7},
            contrasted(saturated(brighter(IMAGE, 0.9), 0.7), 1.2),
        ),
    ],
)
def test_each_part_follows_its_formula(parts: dict[str, Any], expected: np.ndarray) -> None:
    # One level for the rounding to bytes, a little more for the fixed-point arithmetic of OpenCV.
    assert np.abs(distort(**parts) - expected).max() <= 1.2


@pytest.mark.parametrize("hue", [-0.05, 0.03])
def test_hue_turns_the_circle_and_keeps_saturation_and_value(hue: float) -> None:
    turned = distort(hue=hue) / 255
    for y, x in ((0, 0), (5, 7), (39, 49), (20, 3)):
        h, s, v = colorsys.rgb_to_hsv(*(IMAGE[y, x] / 255))
        # HSV in bytes: two steps of 1/255 each for hue and saturation, at a value near 0.5
        assert np.abs(turned[y, x] - colorsys.hsv_to_rgb((h + hue) % 1, s, v)).max() < 0.025


def test_contrast_after_the_hue_uses_the_image_after_the_hue() -> None:
    expected = contrasted(distort(hue=0.05, saturation=1.2), 0.5)
    assert np.abs(distort(hue=0.05, saturation=1.2, contrasts=(1.0, 0.5)) - expected).max() <= 1.2


def test_values_are_clipped_to_bytes() -> None:
    white = np.full((4, 4, 3), 250, np.uint8)
    assert (PhotometricDistort().apply(white, **{**NEUTRAL, "brightness": 1.125}) == 255).all()


def test_the_image_given_is_not_written_to() -> None:
    before = IMAGE.copy()
    distort(brightness=0.9, contrasts=(1.1, 1.0), saturation=1.1, hue=0.02, order=[2, 1, 0])
    assert np.array_equal(IMAGE, before)


@pytest.mark.parametrize(("each", "share"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_every_part_has_its_own_draw(each: float, share: float) -> None:
    transform = PhotometricDistort(each)
    drawn = []
    for seed in range(600):
        transform.random_generator = np.random.default_rng(seed)
        p = transform.get_params()
        assert 0.875 <= p["brightness"] <= 1.125
        assert all(0.5 <= c <= 1.5 for c in (*p["contrasts"], p["saturation"]))
        assert abs(p["hue"]) <= 0.05
        drawn.append((p["brightness"] != 1, p["contrasts"] != (1, 1), p["saturation"] != 1, p["hue"] != 0))
    # standard error of a share of 600 draws: 0.02
    assert np.abs(np.mean(drawn, 0) - share).max() < 0.08
    if each == 0.5:
        assert np.abs(np.corrcoef(np.transpose(drawn)) - np.eye(4)).max() < 0.16  # four of 0.04
