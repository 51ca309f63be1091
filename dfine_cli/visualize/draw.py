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
) -> Picture:
    """A copy of ``image`` with boxes on it, the first on top; an empty caption draws no label."""
    style = style or Style()
    picture: Picture = np.array(image, order="C")
    height, width = picture.shape[:2]
    side = min(height, width)
    line = style.line or 1 + round(side / 400)
    text = style.text or int(np.clip(7 + side / 80, 10, 48))
    corners = _pixels(boxes_xyxy, width, height)
    for (x1, y1, x2, y2), colour in zip(corners[::-1].tolist(), colours[::-1], strict=True):
        cv2.rectangle(picture, (x1, y1), (x2, y2), _darker(colour), line + 2)
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, line)
    for i in range(min(len(corners), style.max_labels) - 1, -1, -1):
        if captions[i]:
            _draw_label(picture, corners[i], captions[i], colours[i], text, line)
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


def _darker(colour: Colour) -> Colour:
    return colour[0] // 3, colour[1] // 3, colour[2] // 3


def _draw_label(
    picture: Picture, corners: NDArray[np.int64], caption: str, colour: Colour, text: int, line: int
) -> None:
    """Write ``caption`` on a filled ground: above the box, or inside it at the upper border of the image."""
    mask = text_mask(caption, text)
    pad = max(2, text // 5)
    tall, wide = mask.shape[0] + 2 * pad, mask.shape[1] + 2 * pad
    x = int(np.clip(corners[0] - line, 0, max(0, picture.shape[1] - wide)))
    y = int(corners[1]) - tall if corners[1] >= tall else int(corners[1])
    y = int(np.clip(y, 0, max(0, picture.shape[0] - tall)))
    picture[y : y + tall, x : x + wide] = colour
    _blend(picture, (x + pad, y + pad), mask, text_colour_on(colour))


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
