"""ClassMap: every kind of ids, every rule, every refusal."""

import json
from pathlib import Path
from typing import Any

import pytest

from dfine_cli.data.classes import COCO80, ClassMap, Remap
from dfine_cli.errors import CheckError, DfineError, UsageError


def categories(*pairs: tuple[int, str]) -> list[dict[str, Any]]:
    return [{"id": i, "name": name, "supercategory": ""} for i, name in pairs]


@pytest.mark.parametrize(
    ("pairs", "ids", "names"),
    [
        ([(1, "a"), (2, "b")], (1, 2), ("a", "b")),  # from 1
        ([(0, "a"), (1, "b")], (0, 1), ("a", "b")),  # from 0
        ([(90, "z"), (3, "b"), (18, "m")], (3, 18, 90), ("b", "m", "z")),  # sparse, unordered
        ([(7, "only")], (7,), ("only",)),  # one class
    ],
)
def test_auto_numbers_by_ascending_id(
    pairs: list[tuple[int, str]], ids: tuple[int, ...], names: tuple[str, ...]
) -> None:
    class_map = ClassMap.build(categories(*pairs), "auto")
    assert (class_map.category_ids, class_map.names, class_map.rule) == (ids, names, "auto")
    assert [class_map.index_of(i) for i in ids] == list(range(len(class_map)))


def test_an_unknown_id_is_refused_with_the_known_ones() -> None:
    class_map = ClassMap.build(categories((3, "a"), (5, "b")), "auto")
    with pytest.raises(DfineError, match="category id 4 is not a class; known ids: 3, 5"):
        class_map.index_of(4)


def test_the_coco_table_is_the_official_one(shared: Path) -> None:
    official = json.loads((shared / "data/classes/coco.json").read_text())["classes"]
    assert [(row["category_id"], row["name"]) for row in official] == list(COCO80)


def test_coco80_gives_all_classes_for_a_part_of_them() -> None:
    class_map = ClassMap.build(categories((90, "toothbrush"), (1, "person")), "coco80")
    assert len(class_map) == 80
    assert class_map.index_of(90) == 79
    assert class_map.index_of(13) == 11  # id 12 is not used


@pytest.mark.parametrize("foreign", [(12, "street sign"), (1, "RBC"), (91, "hair brush")])
def test_coco80_refuses_other_categories(foreign: tuple[int, str]) -> None:
    with pytest.raises(UsageError, match=f"not in the COCO table: {foreign[0]} '{foreign[1]}'") as caught:
        ClassMap.build(categories((2, "bicycle"), foreign), "coco80")
    assert "auto" in caught.value.hint


def test_none_takes_ids_as_indices() -> None:
    class_map = ClassMap.build(categories((1, "b"), (0, "a")), "none")
    assert (class_map.names, class_map.category_ids) == (("a", "b"), (0, 1))


@pytest.mark.parametrize(("ids", "outside"), [((1, 2, 3), "3"), ((-1, 0), "-1"), ((0, 7), "7")])
def test_none_refuses_ids_that_are_not_indices(ids: tuple[int, ...], outside: str) -> None:
    with pytest.raises(UsageError, match=rf"must be 0\.\.{len(ids) - 1}, but there is {outside}$"):
        ClassMap.build(categories(*((i, f"c{i}") for i in ids)), "none")


@pytest.mark.parametrize("remap", ["auto", "none"])
def test_duplicates_are_named(remap: Remap) -> None:
    with pytest.raises(CheckError, match="id 1 occurs more than once"):
        ClassMap.build(categories((0, "a"), (1, "b"), (1, "c")), remap)
    with pytest.raises(CheckError, match="name 'a' occurs more than once"):
        ClassMap.build(categories((0, "a"), (1, "a")), remap)


def test_no_categories_is_an_error() -> None:
    with pytest.raises(CheckError, match="no categories"):
        ClassMap.build([], "auto")


def test_plain_values_and_back() -> None:
    class_map = ClassMap.build(categories((9, "b"), (4, "a")), "auto")
    values = class_map.to_dict()
    assert values == {"names": ["a", "b"], "category_ids": [4, 9], "rule": "auto"}
    assert ClassMap.from_dict(json.loads(json.dumps(values))) == class_map


def test_a_map_that_does_not_pair_up_is_refused() -> None:
    with pytest.raises(CheckError, match="2 names for 1 category ids"):
        ClassMap(("a", "b"), (1,), "auto")
