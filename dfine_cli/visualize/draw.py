"""Boxes with labels on images: one colour per class, readable on small and on large images."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
"""[H, W, 3] RGB."""
Colour = tuple[int, int, int]
"""RGB, 0..255."""

PALETTE: tuple[Colour, ...] = (
    (230, 57, 70),
    (29, 120, 216),
    (42, 157, 80),
    (255, 159, 28),
    (142, 68, 200),
    (0, 180, 196),
    (247, 86, 188),
    (139, 94, 52),
    (168, 207, 56),
    (94, 96, 206),
    (255, 209, 60),
    (15, 110, 100),
)
"""Colours of the first classes; ``class_colour`` goes on from there."""


_DASH = 6
"""Length of a dash and of the gap after it, in widths of the line."""


@dataclass(frozen=True)
class Style:
    """How boxes are drawn; sizes are in pixels, and None follows the size of the image."""

    line: int | None = None
    """Width of box lines."""
    text: int | None = None
    """Height of label text."""
    max_labels: int = 200
    """Labels are drawn for this many boxes, best first; the boxes themselves for all."""


def class_colour(label: int) -> Colour:
    """The colour of a class, always the same: from ``PALETTE``, then around the hue circle."""
    if label < len(PALETTE):
        return PALETTE[label]
    hue = (label * 0.618034) % 1  # the golden ratio keeps neighbours in the list apart
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.9, 0.6, 0.75)[label % 3], (0.95, 0.7, 0.85)[label % 3])
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_boxes(
    image: Picture,
    boxes_xyxy: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Sequence[str],
    scores: NDArray[np.floating] | None = None,
    style: Style | None = None,
) -> Picture:
    """A copy of ``image`` with boxes on it, the best on top.

    Args:
        image: [H, W, 3] RGB.
        boxes_xyxy: [N, 4] in pixels of ``image``; parts outside are cut off.
        labels: [N] class index.
        names: Name of each class.
        scores: [N]; without them the order is kept and labels have no number.
        style: Widths and sizes.
    """
    order = np.arange(len(labels)) if scores is None else np.argsort(-scores, kind="stable")
    captions = [names[labels[i]] if scores is None else f"{names[labels[i]]} {scores[i]:.2f}" for i in order]
    colours = [class_colour(int(labels[i])) for i in order]
    return draw_captioned(image, np.asarray(boxes_xyxy).reshape(-1, 4)[order], colours, captions, style)


def draw_captioned(
    image: Picture,
    boxes_xyxy: NDArray[np.floating],
    colours: Sequence[Colour],
    captions: Sequence[str],
    style: Style | None = None,
    dashed: Sequence[bool] = (),
) -> Picture:
    """A copy of ``image`` with boxes on it, the first on top; an empty caption draws no label.

    Args:
        image: [H, W, 3] RGB.
        boxes_xyxy: [N, 4] in pixels of ``image``; parts outside are cut off.
        colours: [N]
        captions: [N]
        style: Widths and sizes.
        dashed: [N] whether the lines of a box are broken; empty if none are.
    """
    style = style or Style()
    picture: Picture = np.array(image, order="C")
    height, width = picture.shape[:2]
    side = min(height, width)
    line = style.line or 1 + round(side / 400)
    text = style.text or int(np.clip(7 + side / 80, 10, 48))
    corners = _pixels(boxes_xyxy, width, height)
    for i in reversed(range(len(corners))):
        dash = _DASH * line if any(dashed[i : i + 1]) else 0
        _draw_box(picture, corners[i].tolist(), _darker(colours[i]), line + 2, dash)
        _draw_box(picture, corners[i].tolist(), colours[i], line, dash)
    labelled = [i for i in range(min(len(corners), style.max_labels)) if captions[i]]
    masks = [text_mask(captions[i], text) for i in labelled]
    pad = max(2, text // 5)
    places = _label_places(corners[labelled], [mask.shape for mask in masks], pad, line, (height, width))
    for i, mask, (x, y) in reversed(list(zip(labelled, masks, places, strict=True))):
        picture[y : y + mask.shape[0] + 2 * pad, x : x + mask.shape[1] + 2 * pad] = colours[i]
        _blend(picture, (x + pad, y + pad), mask, text_colour_on(colours[i]))
    return picture


@lru_cache(maxsize=4096)
def text_mask(text: str, height: int, bold: bool = False) -> NDArray[np.float32]:
    """Coverage [h, w] of one line of text, 0..1, read-only; ``height`` is the font size in pixels."""
    font = _font(height, bold)
    left, _, right, _ = font.getbbox(text)
    sheet = Image.new("L", (max(1, round(right - left)), sum(font.getmetrics())))
    ImageDraw.Draw(sheet).text((-left, 0), text, fill=255, font=font)
    mask: NDArray[np.float32] = np.asarray(sheet, np.float32) / np.float32(255)
    mask.setflags(write=False)
    return mask


def put_text(
    picture: Picture, xy: tuple[int, int], text: str, height: int, colour: Colour, *, bold: bool = False
) -> int:
    """Write a line of text into ``picture`` with its top left corner at ``xy``; returns its width."""
    mask = text_mask(text, height, bold)
    _blend(picture, xy, mask, colour)
    return int(mask.shape[1])


def text_colour_on(background: Colour) -> Colour:
    """Black or white, whichever reads better on ``background``."""
    luminance = float(np.dot(background, (0.299, 0.587, 0.114)))
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)


def _pixels(boxes_xyxy: NDArray[np.floating], width: int, height: int) -> NDArray[np.int64]:
    """Corner pixels [N, 4] inside the image."""
    last = np.array((width - 1, height - 1) * 2)
    boxes = np.nan_to_num(np.asarray(boxes_xyxy, np.float64).reshape(-1, 4))
    return np.round(np.clip(boxes, 0, last)).astype(np.int64)


def _draw_box(picture: Picture, corners: Sequence[int], colour: Colour, line: int, dash: int) -> None:
    """Draw the sides of a box, broken every ``dash`` pixels unless that is 0."""
    x1, y1, x2, y2 = corners
    if not dash:
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, line)
        return
    for x in range(x1, x2 + 1, 2 * dash):
        for y in (y1, y2):
            cv2.line(picture, (x, y), (min(x + dash, x2), y), colour, line)
    for y in range(y1, y2 + 1, 2 * dash):
        for x in (x1, x2):
            cv2.line(picture, (x, y), (x, min(y + dash, y2)), colour, line)


def _darker(colour: Colour) -> Colour:
    return colour[0] // 3, colour[1] // 3, colour[2] // 3


def _label_places(
    corners: NDArray[np.int64],
    shapes: Sequence[tuple[int, ...]],
    pad: int,
    line: int,
    size: tuple[int, int],
) -> list[tuple[int, int]]:
    """Top left corner of each label: above its box, or where no better label is.

    The places are tried in this order: above the box, inside at its top, below it, inside at its bottom. Where all
    are taken, and at the borders of the image, a label goes under the others at the first place.

    Args:
        corners: [N, 4] boxes in pixels, best first.
        shapes: (height, width) of each text.
        pad: Pixels of ground around it.
        line: Width of box lines.
        size: (height, width) of the image.
    """
    taken = np.zeros((len(shapes), 4), np.int64)
    places = []
    for n, ((x1, y1, _, y2), shape) in enumerate(zip(corners.tolist(), shapes, strict=True)):
        tall, wide = shape[0] + 2 * pad, shape[1] + 2 * pad
        x = int(np.clip(x1 - line, 0, max(0, size[1] - wide)))
        last = max(0, size[0] - tall)
        tries = [y1 - tall if y1 >= tall else y1, y1, y2 + line, y2 - tall]
        ways = [int(np.clip(y, 0, last)) for y in tries]
        y = next((y for y in ways if not _overlaps(taken[:n], (x, y, x + wide, y + tall))), ways[0])
        taken[n] = x, y, x + wide, y + tall
        places.append((x, y))
    return places


def _overlaps(rectangles_xyxy: NDArray[np.int64], one_xyxy: tuple[int, int, int, int]) -> bool:
    low = np.maximum(rectangles_xyxy[:, :2], one_xyxy[:2])
    high = np.minimum(rectangles_xyxy[:, 2:], one_xyxy[2:])
    return bool((low < high).all(1).any())


def _blend(picture: Picture, xy: tuple[int, int], mask: NDArray[np.float32], colour: Colour) -> None:
    """Lay ``colour`` over ``picture`` where ``mask`` covers it; what lies outside is cut off."""
    x, y = xy
    area = picture[y : y + mask.shape[0], x : x + mask.shape[1]]
    cover = mask[: area.shape[0], : area.shape[1], None]
    area[:] = np.round(area + cover * (np.array(colour, np.float32) - area)).astype(np.uint8)


@lru_cache(maxsize=32)
def _font(height: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has far more letters than OpenCV's ASCII fonts."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, height)
