"""The table of published weights."""

from __future__ import annotations

import pytest

from dfine_cli.errors import UsageError
from dfine_cli.model.hgnetv2 import VARIANTS
from dfine_cli.model.sizes import SIZES
from dfine_cli.model.weights import WEIGHTS, find_entry, looks_like_name, match_words


def test_the_published_rows_are_all_there() -> None:
    detectors = [entry for entry in WEIGHTS.values() if entry.kind == "detector"]
    assert sum("Peterande" in entry.url for entry in detectors) == 14
    assert {entry.size for entry in detectors} == set(SIZES)
    assert {entry.size.upper() for entry in WEIGHTS.values() if entry.kind == "backbone"} == set(VARIANTS)
    assert len({entry.file_name for entry in WEIGHTS.values()}) == len(WEIGHTS), "they share a folder"


@pytest.mark.parametrize("name", WEIGHTS)
def test_rows_are_whole(name: str) -> None:
    entry = WEIGHTS[name]
    assert entry.name == name == name.lower() and looks_like_name(name)
    assert entry.url.startswith("https://") and entry.url.endswith(".pth")
    assert entry.licence == "Apache-2.0" and entry.source
    if entry.kind == "detector":
        assert 20 < (entry.ap or entry.ap_first_5000 or 0) < 60
        assert entry.num_classes in (80, 366)
        assert abs((entry.parameters_m or 0) - SIZES[entry.size].parameters / 1e6) < 1
    else:
        assert (entry.num_classes, entry.ap, entry.input_size) == (0, None, None)


@pytest.mark.parametrize(
    ("name", "file", "ap"),
    [
        ("n/coco", "dfine_n_coco.pth", 42.8),
        ("l/obj2coco", "dfine_l_obj2coco_e25.pth", 57.3),
        ("l/obj365-e25", "dfine_l_obj365_e25.pth", 44.7),
        ("x/deim-coco", "deim_dfine_hgnetv2_x_coco_50e.pth", 56.5),
        ("b5/imagenet", "PPHGNetV2_B5_stage1.pth", None),
    ],
)
def test_some_rows(name: str, file: str, ap: float | None) -> None:
    entry = find_entry(name.upper())
    assert (entry.file_name, entry.ap) == (file, ap)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(UsageError) as error:
        find_entry("l/obj2cocos")
    assert "l/obj2coco" in error.value.hint
    with pytest.raises(UsageError) as error:
        find_entry("yolo")
    assert "dfine zoo list" in error.value.hint


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("s/none", True),
        ("S/COCO", True),
        ("./s/coco", False),
        ("runs/one", False),
        ("s/a.pth", False),
        ("s", False),
    ],
)
def test_what_is_meant_as_a_name(text: str, is_name: bool) -> None:
    assert looks_like_name(text) is is_name


def test_a_size_is_a_word_of_its_own() -> None:
    assert match_words(WEIGHTS["s/coco"], ["S", "2017"])
    assert not match_words(WEIGHTS["m/obj2coco"], ["s", "coco"])
    assert match_words(WEIGHTS["m/obj2coco"], [])
