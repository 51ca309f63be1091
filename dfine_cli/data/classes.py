"""The one place where category ids, class indices and class names meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dfine_cli.errors import CheckError, UsageError

Remap = Literal["auto", "coco80", "none"]

_COCO_RUNS = {  # the official ids have gaps: first id of each run without one, and its names
    1: "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant",
    13: "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
    27: "backpack, umbrella",
    31: "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, "
    "skateboard, surfboard, tennis racket, bottle",
    46: "wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, "
    "pizza, donut, cake, chair, couch, potted plant, bed",
    67: "dining table",
    70: "toilet",
    72: "tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator",
    84: "book, clock, vase, scissors, teddy bear, hair drier, toothbrush",
}
COCO80: tuple[tuple[int, str], ...] = tuple(
    pair for first, names in _COCO_RUNS.items() for pair in enumerate(names.split(", "), first)
)
"""(category id, name) of the 80 classes of COCO 2017; the position is the class index."""


@dataclass(frozen=True)
class ClassMap:
    """Class index (the position) <-> category id <-> name.

    Args:
        names: Name of each class.
        category_ids: Its id in the annotation file, and in predictions written for it.
        rule: How it was made: ``auto``, ``coco80`` or ``none`` (``categories.remap`` of a recipe).
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    rule: Remap

    def __post_init__(self) -> None:
        """Refuse a map that does not pair up."""
        if len(self.names) != len(self.category_ids):
            raise CheckError(f"class map: {len(self.names)} names for {len(self.category_ids)} category ids")

    def __len__(self) -> int:
        """Number of classes, C."""
        return len(self.names)

    def index_of(self, category_id: int) -> int:
        """Class index of a category id.

        Raises:
            CheckError: The id is not in the map.
        """
        try:
            return self.category_ids.index(category_id)
        except ValueError:
            known = ", ".join(map(str, self.category_ids))
            raise CheckError(
                f"category id {category_id} is not a class; known ids: {known}",
                "add it to `categories` of the annotation file, or correct the annotation",
            ) from None

    @classmethod
    def build(cls, categories: Sequence[dict[str, Any]], remap: Remap) -> ClassMap:
        """The map for the ``categories`` of an annotation file.

        Args:
            categories: Entries with ``id`` and ``name``; in any order, ids may have gaps and start anywhere.
            remap: ``auto`` numbers the categories by ascending id; ``coco80`` is the official table, in
                which every category of the file must be; ``none`` takes ids as indices.

        Raises:
            CheckError: Duplicate ids or names, no categories, or ids that ``remap`` does not allow.
        """
        pairs = sorted((category["id"], category["name"]) for category in categories)
        if not pairs:
            raise CheckError("there are no categories", "list the classes under `categories`")
        nameless = [str(i) for i, name in pairs if not name.strip()]
        if nameless:
            raise CheckError(
                f"categories: {', '.join(nameless)} has no name", "give every category a name of its own"
            )
        _refuse_duplicates("id", (pair[0] for pair in pairs))
        _refuse_duplicates("name", (pair[1] for pair in pairs))
        if remap == "coco80":
            _require_coco80(pairs)
            pairs = list(COCO80)
        elif remap == "none":
            _require_indices([pair[0] for pair in pairs])
        return cls(tuple(name for _, name in pairs), tuple(i for i, _ in pairs), remap)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint or metadata."""
        return {"names": list(self.names), "category_ids": list(self.category_ids), "rule": self.rule}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClassMap:
        """The map that ``to_dict`` wrote."""
        return cls(tuple(values["names"]), tuple(values["category_ids"]), values["rule"])


def _refuse_duplicates(what: str, values: Iterable[Hashable]) -> None:
    repeated = [repr(value) for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise CheckError(
            f"categories: {what} {', '.join(repeated)} occurs more than once",
            f"give every category its own {what} in the annotation file",
        )


def _require_coco80(pairs: Sequence[tuple[int, str]]) -> None:
    foreign = [f"{i} {name!r}" for i, name in pairs if (i, name) not in COCO80]
    if foreign:
        raise UsageError(
            f"categories.remap is coco80, but these categories are not in the COCO table: {', '.join(foreign)}",
            "set categories.remap to auto to take the classes from the annotation file",
        )


def _require_indices(category_ids: Sequence[int]) -> None:
    last = len(category_ids) - 1
    outside = [str(i) for i in category_ids if not 0 <= i <= last]
    if outside:
        raise UsageError(
            f"categories.remap is none, so ids must be 0..{last}, but there is {', '.join(outside)}",
            "set categories.remap to auto: it accepts any ids",
        )
