"""The published weights, one row each: name, address, what they were trained on and what they reach.

Needs no torch, so that listing them is quick. Latencies are those of the publisher on a T4 with TensorRT in
half precision, one image at a time. The remaining DEIM weights (X from Objects365) and those of RT-DETRv4 are
published behind share links that give a web page in place of the file; they have no row.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dfine_cli.errors import UsageError

LabelSet = Literal["coco", "objects365"]
Activation = Literal["relu", "silu"]

NUM_CLASSES: dict[LabelSet, int] = {"coco": 80, "objects365": 366}
"""Rows of a published head. # published: row 0 of an Objects365 head is unused, as its ids begin at 1."""


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """What is known about a file of published weights."""

    name: str
    """``what/trained-on``, as in ``s/obj2coco`` or ``b0/imagenet``."""
    kind: Literal["detector", "backbone"]
    """``backbone`` files hold the keys of the backbone alone."""
    size: str
    """Key of ``sizes.SIZES``; of a backbone the key of ``hgnetv2.VARIANTS`` in lower case."""
    url: str
    """Address of the file itself."""
    classes: LabelSet | None
    """What the rows of its heads stand for; None for a backbone."""
    trained_on: str
    """Data sets, in the order of training."""
    input_size: tuple[int, int] | None
    """(height, width) in pixels; None for a backbone, which takes any."""
    ap: float | None = None
    """Published AP in percent on the validation set of ``classes``; None where there is none."""
    ap_first_5000: float | None = None
    """The same on the first 5000 validation images of Objects365, as published for those weights."""
    parameters_m: float | None = None
    """Published number of parameters, in millions."""
    gflops: float | None = None
    """Published GFLOPs of an image of ``input_size``."""
    latency_ms: float | None = None
    """Published latency on a T4 in milliseconds."""
    activation: Activation = "relu"
    """Between the linear layers of the decoder; no file says which, and the wrong one spoils its predictions."""
    licence: str = "Apache-2.0"
    """SPDX identifier."""
    source: str
    """Where it comes from, in words or as the address of a page."""

    @property
    def file_name(self) -> str:
        """Last part of the address."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def num_classes(self) -> int:
        """Rows of its heads; 0 for a backbone."""
        return NUM_CLASSES[self.classes] if self.classes else 0


@dataclass(frozen=True)
class _Publisher:
    """What the files of one place have in common."""

    address: str
    """All but the name of the file."""
    source: str
    """See ``WeightsEntry``, as the next one."""
    activation: Activation = "relu"


_DFINE = _Publisher(
    "https://github.com/Peterande/storage/releases/download/dfinev1.0/", "D-FINE (arXiv 2410.13842)"
)
_DEIM = _Publisher(
    "https://github.com/supervisely-ecosystem/deim/releases/download/v0.0.1/",
    "DEIM (arXiv 2412.04234), copy of a third party",
    "silu",
)

_COST = {  # parameters in millions, GFLOPs, milliseconds
    "n": (4, 7, 2.12),
    "s": (10, 25, 3.49),
    "m": (19, 57, 5.62),
    "l": (31, 91, 8.07),
    "x": (62, 202, 12.89),
}

_TRAINED_ON: dict[str, tuple[str, LabelSet]] = {  # what the second half of a name means, and the classes
    "coco": ("COCO 2017", "coco"),
    "obj365": ("Objects365", "objects365"),
    "obj365-e25": ("Objects365, 25 epochs", "objects365"),
    "obj2coco": ("Objects365, then COCO 2017", "coco"),
    "deim-coco": ("COCO 2017 with the DEIM recipe", "coco"),
}

_DETECTORS = (  # publisher, name, file, AP, AP on the first 5000 images
    (_DFINE, "n/coco", "dfine_n_coco.pth", 42.8, None),
    (_DFINE, "s/coco", "dfine_s_coco.pth", 48.5, None),
    (_DFINE, "m/coco", "dfine_m_coco.pth", 52.3, None),
    (_DFINE, "l/coco", "dfine_l_coco.pth", 54.0, None),
    (_DFINE, "x/coco", "dfine_x_coco.pth", 55.8, None),
    (_DFINE, "s/obj2coco", "dfine_s_obj2coco.pth", 50.7, None),
    (_DFINE, "m/obj2coco", "dfine_m_obj2coco.pth", 55.1, None),
    (_DFINE, "l/obj2coco", "dfine_l_obj2coco_e25.pth", 57.3, None),
    (_DFINE, "x/obj2coco", "dfine_x_obj2coco.pth", 59.3, None),
    (_DFINE, "s/obj365", "dfine_s_obj365.pth", 31.0, 30.5),
    (_DFINE, "m/obj365", "dfine_m_obj365.pth", 38.6, 37.4),
    (_DFINE, "l/obj365", "dfine_l_obj365.pth", None, 40.6),
    (_DFINE, "l/obj365-e25", "dfine_l_obj365_e25.pth", 44.7, 42.6),
    (_DFINE, "x/obj365", "dfine_x_obj365.pth", 49.5, 46.5),
    (_DEIM, "n/deim-coco", "deim_dfine_hgnetv2_n_coco_160e.pth", 43.0, None),
    (_DEIM, "s/deim-coco", "deim_dfine_hgnetv2_s_coco_120e.pth", 49.0, None),
    (_DEIM, "m/deim-coco", "deim_dfine_hgnetv2_m_coco_90e.pth", 52.7, None),
    (_DEIM, "l/deim-coco", "deim_dfine_hgnetv2_l_coco_50e.pth", 54.7, None),
    (_DEIM, "x/deim-coco", "deim_dfine_hgnetv2_x_coco_50e.pth", 56.5, None),
)

_BACKBONES = ("b0", "b1", "b2", "b3", "b4", "b5", "b6")


def _detector(
    publisher: _Publisher, name: str, file: str, ap: float | None, ap_first_5000: float | None
) -> WeightsEntry:
    size, data = name.split("/")
    parameters_m, gflops, latency_ms = _COST[size]
    trained_on, classes = _TRAINED_ON[data]
    return WeightsEntry(
        name=name,
        kind="detector",
        size=size,
        url=publisher.address + file,
        classes=classes,
        trained_on=trained_on,
        input_size=(640, 640),
        ap=ap,
        ap_first_5000=ap_first_5000,
        parameters_m=parameters_m,
        gflops=gflops,
        latency_ms=latency_ms,
        activation=publisher.activation,
        source=publisher.source,
    )


def _backbone(variant: str) -> WeightsEntry:
    return WeightsEntry(
        name=f"{variant}/imagenet",
        kind="backbone",
        size=variant,
        url=f"{_DFINE.address}PPHGNetV2_{variant.upper()}_stage1.pth",
        classes=None,
        trained_on="ImageNet",
        input_size=None,
        source="HGNetV2 of PaddleClas, as converted by D-FINE (arXiv 2410.13842)",
    )


WEIGHTS: dict[str, WeightsEntry] = {
    entry.name: entry
    for entry in (*(_detector(*row) for row in _DETECTORS), *(_backbone(name) for name in _BACKBONES))
}
"""All published weights by name: detectors by training data and size, then backbones."""

_SIZE_NAMES = frozenset(entry.size for entry in WEIGHTS.values())


def find_entry(name: str) -> WeightsEntry:
    """The row called ``name``, in any case.

    Raises:
        UsageError: There is none; the hint names what comes near.
    """
    entry = WEIGHTS.get(name.lower())
    if entry is None:
        near = difflib.get_close_matches(name.lower(), WEIGHTS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`dfine zoo list` shows all names"
        raise UsageError(f"no published weights are called {name!r}", hint)
    return entry


def match_words(entry: WeightsEntry, words: Sequence[str]) -> bool:
    """Whether every word is the size of an entry, or in its name, training data, classes or kind."""
    text = f"{entry.name} {entry.trained_on} {entry.classes or ''} {entry.kind}".lower()
    return all(
        entry.size == word if word in _SIZE_NAMES else word in text
        for word in (word.lower() for word in words)
    )


def looks_like_name(text: str) -> bool:
    """Whether ``text`` is meant as the name of published weights, right or wrong: ``size/data``, no suffix."""
    first, slash, rest = text.lower().partition("/")
    return bool(slash and rest) and "." not in rest and first in _SIZE_NAMES


def entry_of(name_or_path: str | Path) -> WeightsEntry | None:
    """The row of the zoo that is asked for; None if it is a path.

    Raises:
        UsageError: It looks like a name, and there is no such name and no such file.
    """
    text = str(name_or_path)
    known = text.lower() in WEIGHTS
    return find_entry(text) if known or (looks_like_name(text) and not Path(text).exists()) else None
