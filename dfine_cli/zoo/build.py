"""A detector from published weights."""

from __future__ import annotations

from dfine_cli.data.classes import COCO80, ClassMap
from dfine_cli.model.dfine import DFINE, build_model
from dfine_cli.model.weights import Activation
from dfine_cli.zoo.read import PublishedWeights
from dfine_cli.zoo.structure import require_complete

ASSUMED: Activation = "relu"
"""Activation of a decoder of which nothing says it."""
_SHOWN = 3


def warnings_of(weights: PublishedWeights) -> list[str]:
    """What a user should know of the model that ``build_detector`` makes."""
    told = []
    if weights.activation is None and not weights.is_backbone:
        told.append(
            f"{weights.path}: nothing says the activation of its decoder, {ASSUMED} is assumed; weights of DEIM "
            "need silu, and are known by their published file names"
        )
    if left := weights.fit().left_over:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        told.append(
            f"{weights.path}: left out, as D-FINE-{weights.size.upper()} has no place for it: "
            f"{', '.join(left[:_SHOWN])}{more}"
        )
    return told


def build_detector(weights: PublishedWeights) -> DFINE:
    """The model that the weights are for, with the weights in it; what is left over of them is not taken.

    Raises:
        CheckError: They are a backbone alone, or incomplete.
    """
    require_complete(weights.fit(), str(weights.path))
    model = build_model(
        weights.size,
        weights.num_classes,
        input_size=weights.input_size,
        activation=weights.activation or ASSUMED,
        **dict(weights.knobs),
    )
    model.load_state_dict(weights.without_left_over().state)
    return model


def class_map(weights: PublishedWeights) -> ClassMap:
    """The classes of its heads: with the ids that the file gives or COCO's own, else numbered from 0."""
    ids, names = weights.category_ids, weights.class_names
    if ids is None and weights.label_set == "coco":
        return ClassMap(tuple(name for _, name in COCO80), tuple(i for i, _ in COCO80), "coco80")
    rows = tuple(range(weights.num_classes))
    return ClassMap(names or tuple(f"class {row}" for row in rows), ids or rows, "auto" if ids else "none")
