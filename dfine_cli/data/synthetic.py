"""A built-in COCO dataset of drawn scenes: five shapes among clutter, with overlaps, from a seed.

Scenes are drawn at ``SUPERSAMPLE`` times their size and averaged down, so edges are smooth; boxes are
tight around the pixels that remain visible.
"""

from __future__ import annotations

import colorsys
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dfine_cli.errors import DfineError
from dfine_cli.types import JsonDict, Size

SUPERSAMPLE = 3
"""Drawing resolution over image resolution."""
SCALES = (0.16, 0.5)
"""Smallest and largest object, as a fraction of the shorter side of the image."""
OBJECTS = (4, 8)
"""Fewest and most objects of a scene."""
TURN = np.pi / 6
"""Objects are turned by up to this angle to either side."""
HUE_SPREAD = 0.08
"""Standard deviation of an object's hue around that of its class: hues overlap, as those of real classes do."""
MIN_VISIBLE = 0.6
"""Share of an object's pixels that later objects must leave visible."""
JPEG_QUALITY = 92

Points = NDArray[np.float64]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Canvas = NDArray[np.float32]


def _regular(corners: int) -> Points:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) - np.pi / 2
    return np.stack((np.cos(angles), np.sin(angles)), 1)


def _half_a_right_angle() -> Points:
    """A turn by 45 degrees: a square that stands on its side."""
    turn: Points = np.array([(1.0, 1.0), (-1.0, 1.0)]) / np.sqrt(2)
    return turn


def _star() -> Points:
    points = _regular(10)
    points[1::2] *= 0.42
    return points


def _cross() -> Points:
    arm, tip = 0.3, 0.95
    quarter = np.array([(arm, -tip), (arm, -arm), (tip, -arm)])
    turn = np.array([(0.0, 1.0), (-1.0, 0.0)])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


class Shape(NamedTuple):
    """One class: its category and its outline in the unit circle."""

    category_id: int
    name: str
    outline: Points
    hue: float
    """Share of the colour circle."""


SHAPES = (
    Shape(3, "disc", _regular(72), hue=0.0),
    Shape(7, "square", _regular(4) @ _half_a_right_angle(), hue=0.6),
    Shape(9, "triangle", _regular(3), hue=0.35),
    Shape(20, "star", _star(), hue=0.15),
    Shape(41, "cross", _cross(), hue=0.8),
)
"""The classes. Their ids are sparse on purpose: category ids are not class indices."""


class Object(NamedTuple):
    """One drawn object."""

    category_id: int
    mask: Mask
    """[H, W] visible pixels."""

    @property
    def box_xywh(self) -> tuple[int, int, int, int]:
        """Tight box around the visible pixels."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        x, y = int(columns[0]), int(rows[0])
        return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


class Scene(NamedTuple):
    """One image with what it shows."""

    image: Image
    """[H, W, 3] RGB."""
    objects: tuple[Object, ...]


def write_dataset(
    folder: Path, *, train: int = 400, val: int = 100, size: Size = (192, 192), seed: int = 0
) -> tuple[Path, Path]:
    """Write ``annotations/instances_{train,val}.json`` and the folders ``train`` and ``val`` of JPEG files.

    The same arguments give the same scenes; the scenes of ``train`` do not depend on ``val``.

    Args:
        folder: Where to write; made if it is not there.
        train: Images to train on.
        val: Images to validate on.
        size: (height, width) of the images in pixels.
        seed: Seed of everything drawn.

    Returns:
        The two annotation files.
    """
    counts = {"train": train, "val": val}
    files = [
        _write_split(folder, name, n, size, (seed, split)) for split, (name, n) in enumerate(counts.items())
    ]
    return files[0], files[1]


def _write_split(folder: Path, name: str, count: int, size: Size, seed: tuple[int, int]) -> Path:
    file = folder / "annotations" / f"instances_{name}.json"
    for made in (file.parent, folder / name):
        made.mkdir(parents=True, exist_ok=True)
    images: list[JsonDict] = []
    annotations: list[JsonDict] = []
    for image_id in range(1, count + 1):
        scene = draw_scene(np.random.default_rng((*seed, image_id)), size)
        file_name = f"{name}_{image_id:05d}.jpg"
        _write_jpeg(folder / name / file_name, scene.image)
        images.append({"id": image_id, "file_name": file_name, "height": size[0], "width": size[1]})
        for drawn in scene.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": drawn.category_id,
                    "bbox": list(drawn.box_xywh),
                    "area": int(drawn.mask.sum()),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": s.category_id, "name": s.name, "supercategory": "shape"} for s in SHAPES]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return file


def _write_jpeg(path: Path, image: Image) -> None:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise DfineError(f"{path}: the image could not be encoded")
    path.write_bytes(data.tobytes())


def draw_scene(rng: np.random.Generator, size: Size) -> Scene:
    """Background and clutter, then objects one over the other, then sensor noise."""
    canvas = _with_clutter(rng, _background(rng, size))
    owners = np.full(size, -1)
    shapes: list[Shape] = []
    whole_areas: list[int] = []
    for _ in range(int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))):
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        cover = _find_place(rng, shape, owners, whole_areas)
        if cover is None:
            continue
        mask = cover >= 0.5
        owners[mask] = len(shapes)
        shapes.append(shape)
        whole_areas.append(int(mask.sum()))
        canvas = _paint(rng, canvas, cover, shape.hue)
    canvas += rng.normal(0, rng.uniform(1, 6), canvas.shape)
    objects = tuple(Object(s.category_id, owners == i) for i, s in enumerate(shapes))
    return Scene(canvas.clip(0, 255).astype(np.uint8), objects)


def _find_place(
    rng: np.random.Generator, shape: Shape, owners: NDArray[np.int64], whole_areas: list[int], tries: int = 20
) -> Canvas | None:
    """Coverage [H, W] of ``shape`` at a place where every object stays visible enough, or None."""
    height, width = owners.shape
    for _ in range(tries):
        diameter = np.exp(rng.uniform(*np.log(SCALES))) * min(height, width)
        margin = 0.4 * diameter
        centre = rng.uniform((margin, margin), (width - margin, height - margin))
        cover = _coverage(
            shape, owners.shape, centre, diameter, rng.uniform(-TURN, TURN), rng.uniform(0.85, 1)
        )
        left = np.bincount(owners[(cover < 0.5) & (owners >= 0)], minlength=len(whole_areas))
        if (left >= MIN_VISIBLE * np.array(whole_areas)).all():
            return cover
    return None


def _coverage(
    shape: Shape, size: Size, centre: Points, diameter: float, angle: float, squeeze: float
) -> Canvas:
    """Share [H, W] of each pixel inside the outline, turned by ``angle`` after a squeeze along its x axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    points = (shape.outline * (squeeze, 1)) @ np.array([(cos, sin), (-sin, cos)]) * diameter / 2 + centre
    large = np.zeros((size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE), np.uint8)
    cv2.fillPoly(large, [np.round(points * SUPERSAMPLE).astype(np.int32)], 255)
    small = cv2.resize(large, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.divide(small, 255, dtype=np.float32)


def _paint(rng: np.random.Generator, canvas: Canvas, cover: Canvas, hue: float) -> Canvas:
    """``canvas`` with a shaded, outlined shape in a colour that stands out from what is under it."""
    under = canvas[cover >= 0.5].mean(0)
    hues = rng.normal(hue, HUE_SPREAD, 4) % 1
    colours = [_colour(rng, saturation=(0.55, 1.0), value=(0.45, 1.0), hue=h) for h in hues]
    colour = max(colours, key=lambda c: float(np.abs(c - under).sum()))
    shade = 1 + rng.uniform(0.05, 0.25) * _ramp(rng, cover.shape)
    inside = cv2.erode(cover, np.ones((3, 3), np.uint8))
    edge = 1 - rng.uniform(0.15, 0.5) * (cover - inside)
    painted = colour * (shade * edge)[..., None]
    return (canvas + cover[..., None] * (painted - canvas)).astype(np.float32)


def _background(rng: np.random.Generator, size: Size) -> Canvas:
    """A ramp between two muted colours under soft blotches and, at times, a grid or stripes."""
    first, second = (_colour(rng, saturation=(0.05, 0.4), value=(0.25, 0.9)) for _ in range(2))
    blend = (_ramp(rng, size) + 1) / 2
    canvas = first + blend[..., None] * (second - first)
    cells = rng.normal(0, 1, (int(rng.integers(4, 16)),) * 2).astype(np.float32)
    blotches = cv2.resize(cells, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    canvas += rng.uniform(3, 16) * blotches[..., None]
    for axis in np.flatnonzero(rng.random(2) < 0.3):
        period, phase = rng.uniform(6, 24), rng.uniform(0, 2 * np.pi)
        wave = np.sin(np.arange(size[axis]) * (2 * np.pi / period) + phase) * rng.uniform(3, 10)
        canvas += wave[:, None, None] if axis == 0 else wave[None, :, None]
    return canvas.astype(np.float32)


def _with_clutter(rng: np.random.Generator, background: Canvas) -> Canvas:
    """``background`` with long blobs, lines, arcs and specks on it, none of them of a class."""
    canvas = background.clip(0, 255).astype(np.uint8)  # OpenCV smooths edges in 8 bits only
    height, width = canvas.shape[:2]
    side = min(height, width)

    def point() -> tuple[int, int]:
        return int(rng.integers(width)), int(rng.integers(height))

    def colour() -> tuple[float, ...]:
        return tuple(_colour(rng, saturation=(0.1, 0.8), value=(0.2, 1.0)).tolist())

    for _ in range(rng.integers(1, 4)):
        long, thin = int(side * rng.uniform(0.2, 0.4)), int(side * rng.uniform(0.02, 0.06)) + 1
        cv2.ellipse(canvas, point(), (long, thin), rng.uniform(0, 360), 0, 360, colour(), -1, cv2.LINE_AA)
    for _ in range(rng.integers(1, 5)):
        cv2.line(canvas, point(), point(), colour(), 1 + int(rng.integers(side // 64 + 1)), cv2.LINE_AA)
    for _ in range(rng.integers(0, 3)):
        radius, start = int(side * rng.uniform(0.08, 0.3)), rng.uniform(0, 360)
        cv2.ellipse(
            canvas,
            point(),
            (radius, radius),
            0,
            start,
            start + rng.uniform(60, 200),
            colour(),
            1,
            cv2.LINE_AA,
        )
    for _ in range(rng.integers(5, 25)):
        cv2.circle(canvas, point(), 1 + int(rng.integers(side // 80 + 1)), colour(), -1, cv2.LINE_AA)
    return canvas.astype(np.float32)


def _colour(
    rng: np.random.Generator,
    saturation: tuple[float, float],
    value: tuple[float, float],
    hue: float | None = None,
) -> NDArray[np.float64]:
    """A random RGB colour, 0..255, of any hue or a given one."""
    hsv = (rng.uniform(0, 1) if hue is None else hue, rng.uniform(*saturation), rng.uniform(*value))
    return np.array(colorsys.hsv_to_rgb(*hsv)) * 255


def _ramp(rng: np.random.Generator, size: tuple[int, ...]) -> Canvas:
    """[H, W] rising from -1 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-1, 1, size[0])[:, None], np.linspace(-1, 1, size[1])[None]
    ramp: Canvas = np.asarray(np.cos(angle) * x + np.sin(angle) * y, np.float32)
    ramp /= np.abs(ramp).max()
    return ramp
