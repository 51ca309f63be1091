"""Boxes and labels on images."""

import time

import numpy as np
import pytest

from dfine_cli.visualize.draw import PALETTE, Style, class_colour, draw_boxes, text_colour_on, text_mask

NAMES = [f"class {i}" for i in range(80)]
GREY = np.full((240, 320, 3), 128, np.uint8)


def draw(boxes, labels, scores=None, image=GREY, **style):
    scores = None if scores is None else np.array(scores, np.float32)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return draw_boxes(image, boxes, np.array(labels, np.int64), NAMES, scores, Style(**style))


def test_the_image_itself_is_left_alone():
    image = GREY.copy()
    picture = draw([[50, 50, 150, 150]], [0], image=image)
    assert (image == GREY).all()
    assert (picture != GREY).any()
    assert picture.dtype == np.uint8 and picture.shape == GREY.shape


def test_no_boxes_change_nothing():
    assert (draw([], []) == GREY).all()


def test_the_line_is_where_the_box_is_and_in_the_colour_of_the_class():
    picture = draw([[60, 80, 200, 180]], [4], line=1)
    assert tuple(picture[130, 60]) == tuple(picture[130, 200]) == tuple(picture[180, 120]) == class_colour(4)
    assert (picture[100:170, 80:180] == 128).all()  # nothing is drawn inside


def test_the_label_stands_above_the_box_or_inside_at_the_upper_border():
    above = draw([[60, 80, 200, 180]], [1])
    assert (above[66:78, 60:80] == class_colour(1)).all(-1).any()
    inside = draw([[60, 2, 200, 180]], [1])
    assert (inside[5:16, 64:80] == class_colour(1)).all(-1).any()


def test_the_best_box_is_on_top():
    box = [50, 50, 150, 150]
    for scores, top in (((0.9, 0.2), 3), ((0.2, 0.9), 5)):
        assert tuple(draw([box, box], [3, 5], scores, line=1)[120, 50]) == class_colour(top)


@pytest.mark.parametrize(
    "box",
    [
        [-50, -50, 400, 300],  # around the image
        [300, 220, 1e9, 1e9],
        [5000, 5000, 6000, 6000],  # wholly outside
        [np.nan, 0, np.inf, 10],
        [10, 10, 10, 10],  # a point
    ],
)
def test_any_box_can_be_drawn(box):
    assert draw([box], [0], [0.5]).shape == GREY.shape


@pytest.mark.parametrize("size", [(1, 1), (8, 200), (32, 32), (2160, 3840)])
def test_any_image_can_be_drawn_on(size):
    image = np.zeros((*size, 3), np.uint8)
    assert draw([[0, 0, size[1], size[0]]], [2], [1.0], image=image).any()


def test_labels_grow_with_the_image():
    def label_height(side):
        image = np.full((side, side, 3), 128, np.uint8)
        picture = draw([[side // 4, side // 2, side // 2, side]], [0], image=image)
        colour = (picture == class_colour(0)).all(-1)
        return int(colour[: side // 2 - 6].any(1).sum())

    small, large = label_height(128), label_height(2048)
    assert 8 <= small <= 24
    assert 2 * small < large < 80


def test_colours_are_stable_and_distinct():
    colours = [class_colour(i) for i in range(80)]
    assert tuple(colours[: len(PALETTE)]) == PALETTE
    assert len(set(colours)) == 80
    gaps = [np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colours[:20]) for b in colours[:i]]
    assert min(gaps) > 40  # sum over RGB; below that two colours look alike


def test_text_reads_on_its_ground():
    assert text_colour_on((250, 250, 60)) == (0, 0, 0)
    assert text_colour_on((20, 20, 120)) == (255, 255, 255)


def test_letters_outside_ascii_are_drawn_as_themselves():
    assert not np.array_equal(text_mask("ä", 20), text_mask("?", 20))
    assert not np.array_equal(text_mask("я", 20), text_mask("ж", 20))
    assert text_mask("", 20).shape[1] == 1


def test_thousands_of_boxes_do_not_crawl():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 900, (5000, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(5, 100, (5000, 2))), 1)
    labels, scores = rng.integers(0, 80, 5000), rng.random(5000)
    image = np.zeros((1000, 1000, 3), np.uint8)
    started = time.perf_counter()
    draw_boxes(image, boxes, labels, NAMES, scores)
    assert time.perf_counter() - started < 5  # takes about 0.3 s; the rest is for a busy machine


def test_only_the_best_are_labelled():
    boxes = [[x, 100, x + 20, 120] for x in range(20, 300, 40)]
    scores = np.linspace(0.9, 0.3, len(boxes))
    labelled = draw(boxes, [0] * len(boxes), scores, max_labels=1, line=1)
    above = (labelled[80:98] == class_colour(0)).all(-1).any(0)
    assert above[20:60].any() and not above[120:].any()


def test_labels_of_the_same_box_do_not_hide_each_other():
    """Above, inside at the top, below, inside at the bottom; the fifth goes under the best."""
    box = [40, 100, 280, 180]
    picture = draw([box] * 5, [1, 2, 3, 4, 5], [0.9, 0.8, 0.7, 0.6, 0.5])
    where = {}
    for label in range(1, 6):
        rows = np.flatnonzero((picture[:, 44:60] == class_colour(label)).all(-1).sum(1) > 3)
        where[label] = rows[
            (np.abs(rows - 100) > 3) & (np.abs(rows - 180) > 3)
        ]  # without the lines of the box
    assert where[1].min() > 75 and where[1].max() < 100 < where[2].min() < where[2].max() < 125
    assert 155 < where[4].min() < where[4].max() < 180 < where[3].min() < where[3].max() < 205
    assert len(where[5]) == 0
