"""The figure of boxes and edge distributions."""

import cv2
import numpy as np
import pytest

from dfine_cli.backends.refinement import Refinement
from dfine_cli.errors import DfineError
from dfine_cli.visualize.fdr_figure import write_figure


def refinement(box=(40, 30, 90, 70), layers=3, bins=33):
    """An object whose right edge moves outwards and gets surer layer by layer."""
    n = np.arange(bins) - bins // 2
    probabilities = np.stack(
        [
            np.stack(
                [np.exp(-((n - (3 if edge == 2 else 0)) ** 2) * 0.05 * (1 + layer)) for edge in range(4)]
            )
            for layer in range(layers)
        ]
    )
    probabilities /= probabilities.sum(-1, keepdims=True)
    boxes = np.array([box] * layers, np.float32)
    boxes[:, 2] += np.arange(layers) * 2
    shifts = np.tile(n * 1.5, (4, 1))
    return Refinement(1, 0.8, np.array(box), boxes, probabilities.astype(np.float32), shifts, np.ones(4))


@pytest.fixture
def picture():
    return np.full((120, 160, 3), (200, 220, 180), np.uint8)


@pytest.mark.parametrize("layers", [1, 3, 6])
def test_a_figure_with_all_layers(picture, tmp_path, layers):
    path = tmp_path / "new" / "figure.png"
    write_figure(picture, refinement(layers=layers), "dog 0.80", path)
    drawn = cv2.imread(str(path))
    assert drawn.shape == (540, 1400, 3) and [p.name for p in path.parent.iterdir()] == ["figure.png"]
    red = (np.abs(drawn.astype(int) - (70, 57, 230)) < 20).all(-1)
    assert red[:, :450].sum() > 50 and red[:, 450:].sum() == 0  # the initial box


def test_the_distributions_are_drawn_where_they_are(picture, tmp_path):
    """The right edge moves outwards: the area under its weighted curve lies right of the middle."""
    write_figure(picture, refinement(layers=1), "dog", tmp_path / "one.png")
    drawn = cv2.imread(str(tmp_path / "one.png")).astype(int)
    dark = (drawn.max(-1) - drawn.min(-1) > 60)[270:, 450:]  # the coloured line in the lower row
    panels = np.array_split(dark, 4, axis=1)
    middles = [np.flatnonzero(p.any(0)).mean() / p.shape[1] for p in panels]
    heights = [np.flatnonzero(p.any(1)).min() for p in panels]
    assert heights[2] < min(heights[0], heights[1], heights[3])
    assert all(0.3 < m < 0.75 for m in middles)


@pytest.mark.parametrize(
    "box", [(-30, -20, 10, 15), (150, 110, 400, 300), (500, 500, 520, 530), (5, 5, 5, 5)]
)
def test_boxes_that_leave_the_image(picture, tmp_path, box):
    write_figure(picture, refinement(box=box), "odd", tmp_path / "odd.png")
    assert (tmp_path / "odd.png").is_file()


def test_a_place_that_cannot_be_written(picture, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DfineError, match="file"):
        write_figure(picture, refinement(), "dog", tmp_path / "file" / "figure.png")
