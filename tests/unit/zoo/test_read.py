"""Reading weights: every layout, and files that are broken, foreign or of something else."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dfine_cli import checkpoint_format as keys
from dfine_cli.config.schema import Recipe
from dfine_cli.data.classes import COCO80, ClassMap
from dfine_cli.errors import CheckError, DfineError, UsageError
from dfine_cli.model.dfine import build_model
from dfine_cli.model.hgnetv2 import VARIANTS, HGNetV2
from dfine_cli.model.sizes import SIZES
from dfine_cli.zoo.open import open_weights
from dfine_cli.zoo.read import read_weights

Save = Callable[..., Path]
LAYOUTS = {
    "published": lambda state: {"model": state},
    "published-ema": lambda state: {"model": {}, "ema": {"module": state, "updates": 7}, "last_epoch": 3},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES)
def test_published_layouts_of_every_size(size: str, layout: str, state_of, save: Save) -> None:
    state = state_of(size)
    weights = open_weights(save(LAYOUTS[layout](state)))
    assert (weights.layout, weights.size, weights.num_classes) == (layout, size, 80)
    assert (weights.label_set, weights.input_size) == ("coco", (640, 640))
    assert weights.class_names == tuple(name for _, name in COCO80)
    assert weights.fit().exact
    assert all(torch.equal(weights.state[key], value) for key, value in state.items())
    build_model(size, 80).load_state_dict(weights.state)


def test_averaged_weights_come_before_raw_ones(state_of, save: Save) -> None:
    averaged = state_of()
    raw = {key: torch.zeros_like(value) for key, value in averaged.items()}
    weights = read_weights(save({"model": raw, "ema": {"module": averaged}}))
    key = "backbone.stem.stem1.conv.weight"
    assert torch.equal(weights.state[key], averaged[key])


def test_objects365_heads_are_known_by_their_rows(state_of, save: Save) -> None:
    weights = open_weights(save({"model": state_of("n", 366)}))
    assert (weights.num_classes, weights.label_set, weights.class_names) == (366, "objects365", None)


def test_other_classes_have_no_names(state_of, save: Save) -> None:
    weights = open_weights(save({"model": state_of("n", 7)}))
    assert (weights.num_classes, weights.label_set, weights.class_names) == (7, None, None)


@pytest.mark.parametrize("input_size", [(320, 320), (320, 640), (640, 320), (1280, 320)])
def test_the_anchors_tell_the_input_size(input_size: tuple[int, int], save: Save) -> None:
    state = build_model("s", 2, input_size=input_size).state_dict()
    assert read_weights(save({"model": state})).input_size == input_size


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_backbones_alone(variant: str, affine: bool, save: Save) -> None:
    with torch.device("meta"):
        model = HGNetV2(
            variant, return_stages=(3,), learnable_affine=affine, freeze_stem=False, freeze_norm=False
        )
    state = {key: torch.zeros(v.shape) for key, v in model.state_dict().items()}
    weights = open_weights(save(state))
    assert (weights.layout, weights.size, weights.num_classes) == ("backbone", variant.lower(), 0)
    assert all(key.startswith("backbone.") for key in weights.state)


def test_renamed_missing_and_misshapen_entries_are_told_by_part(state_of, save: Save) -> None:
    state = state_of("n")
    state["encoder.input_proj.0.convolution.weight"] = state.pop("encoder.input_proj.0.conv.weight")
    state["decoder.enc_bbox_head.layers.2.weight"] = torch.zeros(5, 128)
    for key in [key for key in state if key.startswith("backbone.stem.")]:
        del state[key]
    path = save({"model": state})
    fit = read_weights(path).fit()
    assert [row[2:] for row in fit.rows()] == [(35, 0, 0), (1, 1, 0), (0, 0, 0), (0, 0, 1)]
    with pytest.raises(CheckError) as error:
        open_weights(path)
    assert "backbone: 35 missing, such as backbone.stem.stem1.conv.weight" in error.value.message
    assert "encoder: 1 missing, such as encoder.input_proj.0.conv.weight" in error.value.message
    assert "heads: 1 of another shape" in error.value.message


def test_what_loading_evens_out_is_no_fault(state_of, save: Save) -> None:
    state = state_of("n")
    for key in list(state):
        if key.endswith("num_batches_tracked") or key in ("decoder.up", "decoder.anchors"):
            del state[key]
    weights = open_weights(save({"model": state}))
    assert weights.fit().exact and weights.input_size == (640, 640)


class Payload:
    """Runs code when it is unpickled in the usual way."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older form"])
def test_a_pickle_with_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"model": Payload()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DfineError, match=r"posix\.system.*could run code"):
        read_weights(path)


@pytest.mark.filterwarnings("error")
def test_a_pickle_of_another_kind_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"model": Payload()}))
    with pytest.raises(
        DfineError, match=r"torch\.save did not write; it is not read, as that could run code"
    ):
        read_weights(path)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("content", [{"model": torch.zeros(2)}, {"model": Payload()}], ids=["plain", "code"])
def test_a_whole_file_with_another_pickle_is_not_called_cut_off(tmp_path: Path, content: object) -> None:
    path = tmp_path / "new.pt"
    torch.save(content, path, pickle_protocol=4)
    with pytest.raises(DfineError, match=r"instructions that torch\.save does not use, and is not read"):
        read_weights(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older form"])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_told(tmp_path: Path, state_of, zipped: bool, part: float) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"model": state_of()}, path, _use_new_zipfile_serialization=zipped)
    os.truncate(path, int(path.stat().st_size * part))
    with pytest.raises(DfineError, match="cut off"):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>log in</html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "pointer to a large file"),
        (b"hello", "not a checkpoint"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(DfineError, match=message):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"fc.weight": torch.zeros(2, 2)}, "no D-FINE"),
        ({"model": {"stem.conv.weight": torch.zeros(2, 2)}}, "no D-FINE"),
        ({"model": "resnet"}, "no weights where they are looked for"),
        ([1, 2], "no weights where they are looked for"),
        ({}, "no weights where they are looked for"),
    ],
)
def test_weights_of_other_models(save: Save, content: object, message: str) -> None:
    with pytest.raises(CheckError, match=message):
        read_weights(save(content))


def test_a_model_without_heads(state_of, save: Save) -> None:
    state = {key: value for key, value in state_of().items() if "score_head" not in key}
    with pytest.raises(CheckError, match="without classification heads"):
        read_weights(save({"model": state}))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_weights(tmp_path / "none.pth")
    with pytest.raises(UsageError, match="no weights in this folder"):
        open_weights(tmp_path)


def test_a_wrong_name_has_a_suggestion() -> None:
    with pytest.raises(UsageError) as error:
        open_weights("s/obj2cocoo")
    assert "s/obj2coco" in error.value.hint


def test_safetensors_that_are_cut_off_or_say_nonsense(tmp_path: Path, state_of) -> None:
    path = tmp_path / "weights.safetensors"
    state = {key: value.clone() for key, value in state_of("n").items()}
    save_file(state, path)
    weights = open_weights(path)  # without a description, as others write them
    assert (weights.layout, weights.size, weights.label_set) == ("safetensors", "n", "coco")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DfineError, match="cut off or something else"):
        read_weights(path)
    path.write_bytes(b"")
    with pytest.raises(DfineError, match="cut off or something else"):
        read_weights(path)
    whole = json.dumps({"size": "n", "num_classes": 80, "classes": ["cat"], "label_set": None})
    for description in ("{", "[]", "{}", whole):
        save_file(state, path, {"dfine": description})
        with pytest.raises(DfineError, match="its description cannot be used"):
            read_weights(path)


def test_our_checkpoints_give_the_weights_that_scored_better(state_of, save: Save, tmp_path: Path) -> None:
    averaged = state_of("n", 2)
    raw = {key: torch.zeros_like(value) for key, value in averaged.items()}
    recipe = Recipe.model_validate_json('{"data": {"input_size": [64, 96]}}', strict=True)
    content = {
        keys.FORMAT_KEY: keys.FORMAT,
        keys.MODEL: raw,
        keys.EMA: averaged,
        keys.BEST_WEIGHTS: keys.EMA,
        keys.SIZE: "n",
        keys.CLASSES: ClassMap(("disc", "star"), (3, 20), "auto").to_dict(),
        keys.RECIPE: recipe.model_dump(mode="json"),
    }
    weights = open_weights(save(content, "best.pt"))
    assert (weights.layout, weights.class_names, weights.input_size) == (
        "checkpoint",
        ("disc", "star"),
        (64, 96),
    )
    key = "backbone.stem.stem1.conv.weight"
    assert torch.equal(weights.state[key], averaged[key])
    (tmp_path / "run" / "weights").mkdir(parents=True)
    best = save(content, "run/weights/best.pt")
    assert read_weights(tmp_path / "run").path == best
    del content[keys.CLASSES]
    with pytest.raises(DfineError, match="the checkpoint has no 'classes'"):
        read_weights(save(content, "other.pt"))
