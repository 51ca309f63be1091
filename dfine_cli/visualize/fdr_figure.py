"""The paper's figure 4 for any image (D-FINE, arXiv 2410.13842): boxes and edge distributions layer by layer."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dfine_cli.backends.refinement import Refinement
from dfine_cli.visualize.draw import Picture
from dfine_cli.whole_file import write_whole

EDGES = ("left", "top", "right", "bottom")
INK, FAINT, GRID, START = "#262a33", "#787e8a", "#e3e6eb", "#e63946"
CONTEXT = 0.35
"""Share of a box's size that is shown around it."""
_LEAST = 48
"""Smallest side of the part that is shown, in pixels."""
_FADED = 1e-3
"""Bins with less probability in every layer are left out at both ends."""


def write_figure(picture: Picture, refinement: Refinement, title: str, path: Path) -> None:
    """Write a PNG: the object with the box of each layer, and below W(n) the distribution of each edge.

    The upper row has the probabilities of the bins, unweighted; the lower one what each bin moves its edge by,
    weighted by W(n), in pixels of the image: its sum is the shift of the edge, and what follows ± how far the
    distribution leaves it open.

    Args:
        picture: [H, W, 3] RGB, the whole image.
        refinement: The detection.
        title: Class and score.
        path: File to write; the file appears whole or not at all.

    Raises:
        DfineError: It cannot be written.
    """
    count = len(refinement.boxes_xyxy)
    colours = [matplotlib.colormaps["viridis_r"](v) for v in np.linspace(0.15, 0.95, count)]
    figure = Figure(figsize=(14, 5.4), dpi=100, layout="constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=(1.9, 1, 1, 1, 1))
    _draw_boxes(figure.add_subplot(grid[:, 0]), picture, refinement, title, colours)
    bins = _used_bins(refinement.probabilities)
    rows = [[figure.add_subplot(grid[row, 1 + edge]) for edge in range(len(EDGES))] for row in range(2)]
    for edge, name in enumerate(EDGES):
        weighted = refinement.probabilities[:, edge] * refinement.shifts[edge]
        _draw_lines(rows[0][edge], bins, refinement.probabilities[:, edge], colours)
        _draw_lines(rows[1][edge], bins, weighted, colours)
        shift = float(weighted[-1].sum())
        rows[0][edge].set_title(f"{name} edge", loc="left", fontsize=10, color=INK, fontweight="bold")
        rows[1][edge].set_title(
            _moved(shift, float(refinement.spread[edge])), loc="left", fontsize=9, color=INK
        )
        rows[1][edge].set_xlabel("bin n", fontsize=8, color=FAINT)
    rows[0][0].set_ylabel("probability", fontsize=9, color=INK)
    rows[1][0].set_ylabel("probability · W(n), pixels", fontsize=9, color=INK)
    for row in rows:
        low = min(axes.get_ylim()[0] for axes in row)
        high = max(axes.get_ylim()[1] for axes in row)
        for axes in row:
            axes.set_ylim(low, high)
            axes.tick_params(labelleft=axes is row[0])
    _save(figure, path)


def _draw_boxes(
    axes: Axes, picture: Picture, refinement: Refinement, title: str, colours: list[tuple[float, ...]]
) -> None:
    boxes = [refinement.initial_xyxy, *refinement.boxes_xyxy]
    x1, y1, x2, y2 = _window(np.stack(boxes), picture.shape[:2])
    axes.imshow(picture[y1:y2, x1:x2], extent=(x1, x2, y2, y1), interpolation="lanczos")
    names = ["initial", *(f"layer {i + 1}" for i in range(len(boxes) - 1))]
    styles = [(0, (4, 3)), *["solid"] * (len(boxes) - 1)]
    for box, name, colour, style in zip(boxes, names, [START, *colours], styles, strict=True):
        last = name == names[-1]
        axes.add_patch(
            Rectangle(
                (float(box[0]), float(box[1])),
                float(box[2] - box[0]),
                float(box[3] - box[1]),
                fill=False,
                edgecolor=colour,
                linewidth=2.4 if last or name == "initial" else 1.4,
                linestyle=style,
                label=name,
            )
        )
    axes.set_xlim(x1, x2)
    axes.set_ylim(y2, y1)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, frameon=False, fontsize=8, labelcolor=INK
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_lines(
    axes: Axes, bins: NDArray[np.int64], values: NDArray[np.float32], colours: list[tuple[float, ...]]
) -> None:
    """One line per layer, the last one filled."""
    for i, colour in enumerate(colours):
        last = i == len(colours) - 1
        axes.plot(bins, values[i, bins], color=colour, linewidth=2 if last else 1.3, zorder=3)
        if last:
            axes.fill_between(bins, values[i, bins], color=colour, alpha=0.18, linewidth=0, zorder=2)
    axes.axvline((values.shape[1] - 1) / 2, color=FAINT, linewidth=0.8, linestyle=":", zorder=1)
    axes.axhline(0, color=FAINT, linewidth=0.6, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.02, y=0.08)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _moved(shift: float, spread: float) -> str:
    """The shift of an edge and how far it is left open, both in pixels."""
    way = "outwards" if shift > 0 else "inwards"
    return f"{abs(shift):.1f} ± {spread:.1f} px {way if abs(shift) >= 0.05 else ''}".rstrip()


def _used_bins(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bins from the first to the last that any edge of any layer makes use of, the same distance around the middle."""
    middle = (probabilities.shape[-1] - 1) // 2
    used = np.flatnonzero((probabilities > _FADED).any((0, 1)))
    reach = max(4, int(np.abs(used - middle).max(initial=0)))
    return np.arange(middle - reach, middle + reach + 1)


def _window(boxes_xyxy: NDArray[np.float32], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Part of the image (x1, y1, x2, y2) around all boxes."""
    height, width = shape
    low, high = boxes_xyxy[:, :2].min(0), boxes_xyxy[:, 2:].max(0)
    reach = np.maximum((high - low) * (0.5 + CONTEXT), _LEAST / 2)
    middle = (low + high) / 2
    x1, y1 = np.clip(np.floor(middle - reach), 0, (width - 1, height - 1)).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(middle + reach), (x1 + 1, y1 + 1), (width, height)).astype(int).tolist()
    return x1, y1, x2, y2


def _save(figure: Figure, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_whole(path, picture.getvalue(), "--out")
