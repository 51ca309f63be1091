"""The layout of D-FINE in Hugging Face's ``transformers``: names, tensors and ``config.json``, both ways.

Names are those of files; inside the library some of them differ and are read as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dfine_cli.model.hgnetv2 import VARIANTS
from dfine_cli.model.sizes import SIZES, ModelSize
from dfine_cli.types import Size

State = dict[str, Tensor]

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
PROCESSOR_FILE = "preprocessor_config.json"
CATEGORIES_KEY = "dfine_categories"
"""Ours in ``config.json``: names and ids of the data, as COCO writes them. The library keeps it and does not use it."""

# Beginnings of keys, ours and theirs. The first that matches counts, so the special ones come first.
_PREFIXES = (
    ("backbone.stem.", "model.backbone.model.embedder."),
    ("backbone.stages.", "model.backbone.model.encoder.stages."),
    ("encoder.input_proj.", "model.encoder_input_proj."),
    ("encoder.", "model.encoder."),
    ("decoder.input_proj.", "model.decoder_input_proj."),
    ("decoder.decoder.", "model.decoder."),
    ("decoder.dec_score_head.", "model.decoder.class_embed."),
    ("decoder.dec_bbox_head.", "model.decoder.bbox_embed."),
    ("decoder.query_pos_head.", "model.decoder.query_pos_head."),
    ("decoder.pre_bbox_head.", "model.decoder.pre_bbox_head."),
    ("decoder.", "model."),
)

# Parts of keys, ours and theirs, each with the beginnings (ours) of the keys that it is for.
_PIECES = (
    (("backbone.",), ".conv.weight", ".convolution.weight"),
    (("backbone.",), ".bn.", ".normalization."),
    (("encoder.input_proj.", "decoder.input_proj."), ".conv.", ".0."),
    (("encoder.input_proj.", "decoder.input_proj."), ".norm.", ".1."),
    (("decoder.enc_output.",), ".proj.", ".0."),
    (("decoder.enc_output.",), ".norm.", ".1."),
    (("encoder.encoder.", "decoder.decoder.layers."), ".norm1.", ".self_attn_layer_norm."),
    (("encoder.encoder.",), ".norm2.", ".final_layer_norm."),
    (("decoder.decoder.layers.",), ".norm3.", ".final_layer_norm."),
    (("encoder.encoder.", "decoder.decoder.layers."), ".linear1.", ".fc1."),
    (("encoder.encoder.", "decoder.decoder.layers."), ".linear2.", ".fc2."),
    (("decoder.decoder.layers.",), ".cross_attn.", ".encoder_attn."),
    (("encoder.downsample_convs.",), ".0.cv1.", ".conv1."),
    (("encoder.downsample_convs.",), ".0.cv2.", ".conv2."),
    (("encoder.fpn_blocks.", "encoder.pan_blocks."), ".cv1.", ".conv1."),
    (("encoder.fpn_blocks.", "encoder.pan_blocks."), ".cv2.0.", ".csp_rep1."),
    (("encoder.fpn_blocks.", "encoder.pan_blocks."), ".cv2.1.", ".conv2."),
    (("encoder.fpn_blocks.", "encoder.pan_blocks."), ".cv3.0.", ".csp_rep2."),
    (("encoder.fpn_blocks.", "encoder.pan_blocks."), ".cv3.1.", ".conv3."),
    (("encoder.fpn_blocks.", "encoder.pan_blocks."), ".cv4.", ".conv4."),
)

# What files of other versions, or the library in memory, call the same things.
_OTHER_NAMES = (
    (re.compile(r"^model\.encoder\.aifi\."), "model.encoder.encoder."),
    (re.compile(r"\.self_attn\.o_proj\."), ".self_attn.out_proj."),
    (re.compile(r"\.mlp\.layers\.0\."), ".fc1."),
    (re.compile(r"\.mlp\.layers\.1\."), ".fc2."),
    (re.compile(r"^(class|bbox)_embed\."), r"model.decoder.\1_embed."),
)

_PACKED = re.compile(r"\.self_attn\.in_proj_(weight|bias)$")
_QKV = ("q_proj", "k_proj", "v_proj")
_OURS_ALONE = frozenset({"decoder.anchors", "decoder.valid_mask", "decoder.up", "decoder.reg_scale"})
"""Constants that the library computes, and the second names of two that it stores once."""
_UNNAMED = re.compile(r"LABEL_\d+$")


def is_huggingface(keys: Mapping[str, object]) -> bool:
    """Whether the keys are those of the library."""
    return any(key.startswith("model.backbone.model.") for key in keys)


def their_name(key: str) -> str:
    """What a file of the library calls the entry that we call ``key``; packed projections are three there."""
    name = key
    for beginnings, ours, theirs in _PIECES:
        if key.startswith(beginnings):
            name = name.replace(ours, theirs, 1)
    for ours, theirs in _PREFIXES:
        if key.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def to_huggingface(state: Mapping[str, Tensor]) -> State:
    """Weights in the library's layout, contiguous and each with memory of its own, as ``.safetensors`` needs.

    Args:
        state: With our key names.
    """
    converted: State = {}
    for key, value in state.items():
        if key in _OURS_ALONE:
            continue
        found = _PACKED.search(key)
        if found is None:
            converted[their_name(key)] = value.clone()
            continue
        stem = their_name(key[: found.start()])
        for name, third in zip(_QKV, value.chunk(3), strict=True):
            converted[f"{stem}.self_attn.{name}.{found[1]}"] = third.clone()
    # An integer as published; a float in the library.
    converted["model.decoder.reg_scale"] = converted["model.decoder.reg_scale"].float()
    return converted


def from_huggingface(theirs: Mapping[str, Tensor], keys: Sequence[str]) -> State:
    """Weights with our key names.

    Args:
        theirs: In the library's layout, of whichever of its versions.
        keys: Keys of our model. Entries that are for none of them keep their name.
    """
    found = {_name_in_files(key): value for key, value in theirs.items()}
    state: State = {}
    for key in keys:
        packed = _PACKED.search(key)
        if packed is None:
            if (value := found.pop(their_name(key), None)) is not None:
                state[key] = value
            continue
        stem = their_name(key[: packed.start()])
        thirds = [f"{stem}.self_attn.{name}.{packed[1]}" for name in _QKV]
        if all(name in found for name in thirds):
            state[key] = torch.cat([found.pop(name) for name in thirds])
    _restore_constants(state)
    return {**state, **found}


def _name_in_files(key: str) -> str:
    for pattern, name in _OTHER_NAMES:
        key = pattern.sub(name, key)
    return key


def _restore_constants(state: State) -> None:
    """Both names of the two constants, and the whole number that is one in published weights."""
    for name in ("up", "reg_scale"):
        value = state.get(f"decoder.decoder.{name}")
        if value is not None:
            value = value.reshape(1)
            whole = name == "reg_scale" and torch.equal(value, value.trunc())
            value = value.long() if whole else value.float()
            state[f"decoder.{name}"] = state[f"decoder.decoder.{name}"] = value


def library_config(
    size: str, class_names: Sequence[str], state: Mapping[str, Tensor], knobs: Mapping[str, Any]
) -> dict[str, Any]:
    """The ``config.json`` from which the library builds the same model.

    Args:
        size: Key of ``SIZES``.
        class_names: Name of every row of the heads.
        state: With our key names; holds the two constants of W(n).
        knobs: Where the model differs from its size, as keyword arguments of ``build_model``.
    """
    row = SIZES[size]
    names = {str(index): name for index, name in enumerate(class_names)}
    return {
        "architectures": ["DFineForObjectDetection"],
        "model_type": "d_fine",
        "backbone_config": _backbone_config(row),
        "freeze_backbone_batch_norms": row.freeze_norm,
        "encoder_hidden_dim": row.hidden,
        "encoder_in_channels": list(row.in_channels),
        "encoder_ffn_dim": row.feedforward,
        "encode_proj_layers": [row.levels - 1],
        "feat_strides": list(row.strides),
        "hidden_expansion": row.expansion,
        "depth_mult": row.depth,
        "d_model": row.decoder_hidden,
        "decoder_in_channels": [row.hidden] * row.levels,
        "decoder_ffn_dim": row.decoder_feedforward,
        "decoder_layers": knobs.get("decoder_layers") or row.decoder_layers,
        "decoder_n_points": list(knobs.get("points") or row.points),
        "num_feature_levels": row.levels,
        "max_num_bins": knobs.get("bins", 32),
        "num_queries": knobs.get("num_queries", 300),
        "reg_scale": float(state["decoder.reg_scale"]),
        "up": float(state["decoder.up"]),
        "id2label": names,
        "label2id": {name: int(index) for index, name in names.items()},
        "dtype": "float32",
    }


def processor_config(input_size: Size) -> dict[str, Any]:
    """The ``preprocessor_config.json`` that brings images to ``input_size`` (height, width) as we do."""
    return {
        "image_processor_type": "RTDetrImageProcessor",
        "do_resize": True,
        "size": {"height": input_size[0], "width": input_size[1]},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "do_pad": False,
    }


def input_size_of(processor: Mapping[str, Any]) -> Size | None:
    """(height, width) in pixels of a ``preprocessor_config.json``; None if it gives none."""
    size = processor.get("size")
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    return None


def _backbone_config(row: ModelSize) -> dict[str, Any]:
    variant = VARIANTS[row.backbone]
    stages = variant.stages
    return {
        "model_type": "hgnet_v2",
        "depths": [stage.blocks for stage in stages],
        "embedding_size": stages[0].inputs,
        "hidden_sizes": [stage.outputs for stage in stages],
        "stem_channels": [3, variant.stem_mid, stages[0].inputs],
        "stage_in_channels": [stage.inputs for stage in stages],
        "stage_mid_channels": [stage.mid for stage in stages],
        "stage_out_channels": [stage.outputs for stage in stages],
        "stage_num_blocks": [stage.blocks for stage in stages],
        "stage_numb_of_layers": [stage.layers for stage in stages],
        "use_learnable_affine_block": row.learnable_affine,
        # The library counts the stem as stage 0.
        "out_features": [f"stage{index + 1}" for index in row.return_stages],
        "out_indices": [index + 1 for index in row.return_stages],
    }


def class_names_of(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of the classes in a ``config.json``; None if it has only the library's place-holders."""
    labels = config.get("id2label") or {}
    names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    return None if not names or all(_UNNAMED.match(name) for name in names) else names


def categories_of(names: Sequence[str], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """What ``CATEGORIES_KEY`` holds.

    Args:
        names: Name of every row of the heads.
        category_ids: Its id in the data.
    """
    return [{"id": i, "name": name} for i, name in zip(category_ids, names, strict=True)]


def category_ids_of(config: Mapping[str, Any], names: Sequence[str]) -> tuple[int, ...] | None:
    """Ids of the classes called ``names``; None if a ``config.json`` gives none, or those of other classes.

    Others are there when the library has trained a model of ours for classes of its own.
    """
    given = config.get(CATEGORIES_KEY)
    if not isinstance(given, list) or not all(isinstance(c, Mapping) for c in given):
        return None
    ids = [c.get("id") for c in given]
    if [c.get("name") for c in given] != list(names) or not all(type(i) is int for i in ids):
        return None
    return tuple(ids)


def knobs_of(config: Mapping[str, Any], size: str) -> dict[str, Any]:
    """Where the model of a ``config.json`` differs from the size, as keyword arguments of ``build_model``."""
    row = SIZES[size]
    usual = {"decoder_layers": row.decoder_layers, "points": row.points, "bins": 32, "num_queries": 300}
    points = config.get("decoder_n_points", row.points)
    given = {
        "decoder_layers": config.get("decoder_layers", row.decoder_layers),
        "points": tuple(points) if isinstance(points, list | tuple) else (points,) * row.levels,
        "bins": config.get("max_num_bins", 32),
        "num_queries": config.get("num_queries", 300),
    }
    return {key: value for key, value in given.items() if value != usual[key]}
