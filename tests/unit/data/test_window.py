"""Views of images through windows."""

import numpy as np
import pytest
from PIL import Image

from dfine_cli.data.window import View, Window, resize

NOISE = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(45, 65), (64, 32), (180, 200), (33, 200), (90, 64), (1, 1)])
@pytest.mark.parametrize("part", [np.s_[:, :], np.s_[3:80, 11:120]], ids=["whole", "part"])
def test_resize_gives_the_pixels_of_evaluation(size: tuple[int, int], part: tuple[slice, slice]) -> None:
    image = NOISE[part]
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    # The kernel for AVX2 is bit-equal to Pillow; one level is left for the rounding of other CPUs.
    assert np.abs(resize(image, size).astype(int) - expected).max() <= 1


def test_resize_to_the_same_size_changes_nothing() -> None:
    assert resize(NOISE, (90, 130)) is NOISE


def test_window_inside_is_a_crop() -> None:
    view = View((90, 130), Window(20, 10, 50, 40), (40, 50))
    assert np.array_equal(view.render(NOISE), NOISE[10:50, 20:70])


def test_beyond_the_image_is_the_fill() -> None:
    picture = View((90, 130), Window(-20, -10, 200, 150), (150, 200)).render(NOISE, fill=9)
    assert np.array_equal(picture[10:100, 20:150], NOISE)
    assert (picture[:10] == 9).all() and (picture[100:] == 9).all() and (picture[:, 150:] == 9).all()


def test_window_without_any_image_is_all_fill() -> None:
    view = View((90, 130), Window(500, 0, 10, 10), (4, 6))
    assert (view.render(NOISE, fill=3) == 3).all()
    _, clipped = view.move(np.array([[1.0, 2, 30, 40]]))
    assert clipped[0, 0] == clipped[0, 2], "nothing is left of a box"


@pytest.mark.parametrize("window", [Window(-3, -5, 1000, 900), Window(129, 89, 600, 600)])
def test_a_little_image_in_a_large_window_keeps_a_pixel(window: Window) -> None:
    picture = View((90, 130), window, (4, 4)).render(np.full_like(NOISE, 200))
    assert (picture == 200).any()


def test_boxes_are_clipped_to_what_is_seen() -> None:
    moved, clipped = View((90, 130), Window(20, 10, 50, 40), (80, 100)).move(np.array([[0.0, 0, 45, 30]]))
    assert moved.tolist() == [[-40, -20, 50, 40]]
    assert clipped.tolist() == [[0, 0, 50, 40]]


def test_inner_windows_are_measured_from_the_image() -> None:
    assert Window(-20, 5, 300, 200).inner(Window(30, 10, 50, 60)) == Window(10, 15, 50, 60)
