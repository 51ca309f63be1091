"""The layout of Hugging Face's library, held against the library itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dfine_cli.data.classes import COCO80
from dfine_cli.model.dfine import DFINE, build_model
from dfine_cli.model.sizes import SIZES
from dfine_cli.zoo.build import class_map
from dfine_cli.zoo.convert import convert
from dfine_cli.zoo.huggingface import library_config, to_huggingface
from dfine_cli.zoo.open import open_weights
from dfine_cli.zoo.read import PublishedWeights, read_weights
from tests.parity.weights import fill, fill_model

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="needs transformers, of the extra `dev`")

NAMES = ("cat", "dog", "bird", "fish", "tree")
SIDE = {"n": 256}  # a multiple of 32 with as many cells as there are queries: N has fewer levels
CONSTANTS = {"decoder.up": torch.tensor([0.5]), "decoder.reg_scale": torch.tensor([4])}


def their_model(size: str) -> Any:
    """A model of the library with random weights and statistics, built from our configuration."""
    state = {**CONSTANTS, "decoder.reg_scale": torch.tensor([SIZES[size].reg_scale])}
    config = transformers.DFineConfig.from_dict(library_config(size, NAMES, state, {}))
    model = transformers.DFineForObjectDetection(config).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            recorded = fill.value_for(key, tuple(value.shape))
            if recorded is not None:
                value.copy_(torch.as_tensor(recorded))
    return model


def our_model(weights: PublishedWeights) -> DFINE:
    model = build_model(
        weights.size, weights.num_classes, input_size=weights.input_size, **dict(weights.knobs)
    )
    model.load_state_dict(weights.state)
    return model.eval()


@pytest.mark.parametrize("size", SIZES)
def test_both_ways_of_every_size_give_what_the_library_gives(size: str, tmp_path: Path) -> None:
    theirs = their_model(size)
    theirs.save_pretrained(tmp_path)
    weights = open_weights(tmp_path)
    assert (weights.layout, weights.size, weights.class_names) == ("huggingface", size, NAMES)
    assert weights.fit().exact
    side = SIDE.get(size, 128)
    images = torch.from_numpy(fill.images(1, side, side)).float()
    with torch.no_grad():
        expected, found = theirs(images), our_model(weights)(images).final
    assert expected.logits.std() > 0.1  # it says something
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.boxes, expected.pred_boxes, rtol=0, atol=1e-4)

    back, file = to_huggingface(weights.state), load_file(tmp_path / "model.safetensors")
    counters = {key for key in back.keys() ^ file.keys() if key.endswith("num_batches_tracked")}
    assert back.keys() ^ file.keys() == counters
    assert all(torch.equal(back[key], file[key]) for key in back.keys() & file.keys())


@pytest.fixture
def rectangular(tmp_path: Path) -> PublishedWeights:
    """D-FINE-N for two classes as another recipe makes it: fewer layers, bins and queries, not square."""
    knobs = {"decoder_layers": 2, "points": (4, 5), "bins": 16, "num_queries": 50}
    model = build_model("n", 2, input_size=(160, 256), weighting_c=0.3, **knobs)
    fill_model(model, torch.float32)
    return PublishedWeights(
        path=tmp_path / "best.pt",
        layout="checkpoint",
        size="n",
        num_classes=2,
        class_names=("red", "blue"),
        category_ids=(90, 7),
        label_set=None,
        input_size=(160, 256),
        state=model.state_dict(),
        knobs=knobs,
    )


def test_the_library_opens_what_we_write(rectangular: PublishedWeights, tmp_path: Path) -> None:
    folder = tmp_path / "for_transformers"
    assert convert(rectangular, folder) == "huggingface"
    theirs, told = transformers.DFineForObjectDetection.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    assert theirs.config.id2label == {0: "red", 1: "blue"}
    images = torch.from_numpy(fill.images(1, 160, 256)).float()
    with torch.no_grad():
        expected, found = theirs.eval()(images), our_model(rectangular)(images).final
    assert found.logits.shape == (1, 50, 2)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.boxes, expected.pred_boxes, rtol=0, atol=1e-4)
    assert json.loads((folder / "preprocessor_config.json").read_text())["size"] == {
        "height": 160,
        "width": 256,
    }


def test_what_we_write_we_read(rectangular: PublishedWeights, tmp_path: Path) -> None:
    convert(rectangular, tmp_path / "folder")
    weights = open_weights(tmp_path / "folder")
    assert (weights.class_names, weights.input_size) == (("red", "blue"), (160, 256))
    assert weights.category_ids == (90, 7)
    assert weights.knobs == {**rectangular.knobs}
    assert weights.fit().exact
    for key, value in rectangular.state.items():
        if not key.endswith(("anchors", "valid_mask")):
            assert torch.equal(weights.state[key], value), key
            assert weights.state[key].dtype == value.dtype, key


def test_ids_are_kept_only_for_the_classes_that_they_are_for(
    rectangular: PublishedWeights, tmp_path: Path
) -> None:
    """The library keeps what it does not know, also when it is given other classes."""
    convert(rectangular, tmp_path / "folder")
    model = transformers.DFineForObjectDetection.from_pretrained(tmp_path / "folder")
    model.save_pretrained(tmp_path / "again")
    assert read_weights(tmp_path / "again").category_ids == (90, 7)
    model.config.id2label = {0: "red", 1: "green"}
    model.save_pretrained(tmp_path / "other")
    weights = read_weights(tmp_path / "other")
    assert (weights.class_names, weights.category_ids) == (("red", "green"), None)


IN_OTHER_WORDS = {"motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "tv": "tvmonitor"}


@pytest.mark.parametrize("ordered", [True, False])
def test_the_ids_of_coco_belong_to_its_names_in_its_order(
    ordered: bool, save: Callable[..., Path], state_of: Callable[..., dict[str, torch.Tensor]]
) -> None:
    names = [IN_OTHER_WORDS.get(name, name).replace("potted plant", "pottedplant") for _, name in COCO80]
    if not ordered:
        names[:2] = names[1::-1]
    path = save(to_huggingface(state_of()), "pytorch_model.bin")
    (path.parent / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))
    classes = class_map(read_weights(path))
    if ordered:
        assert tuple(zip(classes.category_ids, classes.names, strict=True)) == COCO80
    else:
        assert (classes.names, classes.category_ids) == (tuple(names), tuple(range(80)))


def test_names_as_they_are_in_memory_are_read_too(
    save: Callable[..., Path], rectangular: PublishedWeights
) -> None:
    config = library_config("n", ("red", "blue"), rectangular.state, rectangular.knobs)
    model = transformers.DFineForObjectDetection(transformers.DFineConfig.from_dict(config))
    path = save(model.state_dict(), "pytorch_model.bin")
    (path.parent / "config.json").write_text(json.dumps(config))
    weights = read_weights(path)
    assert weights.fit().exact, weights.fit().faults()
    assert torch.equal(
        weights.state["encoder.encoder.0.layers.0.linear1.weight"],
        model.state_dict()["model.encoder.aifi.0.layers.0.mlp.layers.0.weight"],
    )
