"""Which class names mean the same."""

import json
from pathlib import Path

import pytest

from dfine_cli.data.classes import COCO80
from dfine_cli.data.names import SYNONYMS, Match, match_names, normal_form
from dfine_cli.errors import UsageError

COCO = [name for _, name in COCO80]

PUBLISHED = (  # Objects365 index of each COCO label, from the published fine-tuning code's table
    "0 46 5 58 114 55 116 65 21 40 176 127 249 24 56 139 92 78 99 96 144 295 178 180 38 39 13 43 120 219 "
    "148 173 165 154 137 113 145 146 204 8 35 10 88 84 93 26 112 82 265 104 141 152 234 143 150 97 2 50 25 75 "
    "98 153 37 73 115 132 106 61 163 134 277 81 133 18 94 30 169 70 328 226"
)


@pytest.fixture(scope="module")
def objects365(shared: Path) -> list[str]:
    content = json.loads((shared / "data" / "classes" / "objects365.json").read_text())
    return [c["name"] for c in content["classes"]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Traffic_Lights", "traffic light"),
        ("TrafficLight", "traffic-light"),
        ("cell-phones", "CellPhone"),
        ("Wine Glasses", "wine glass"),
        ("buses", "Bus"),
        ("People", "person"),
        ("knives", "KNIFE"),
        ("berries", "berry"),
        ("boxes", "box"),
        ("RBC", "rbc"),
        ("platelets", "Platelet"),
        ("hot  dog", "hotdog"),
        ("Straße", "STRASSE"),
        ("кошка", "Кошка"),
        ("ﬁsh", "fish"),
    ],
)
def test_case_plural_punctuation_and_spaces_do_not_count(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("glass", "gas"),
        ("glass", "Glasses"),
        ("class 1", "class 2"),
        ("bus", "bun"),
        ("tennis", "tenni"),
        ("a1", "a11"),
        ("+", "-"),
    ],
)
def test_other_names_stay_other_names(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


def test_the_published_correspondence_of_coco_and_objects365(objects365: list[str]) -> None:
    expected = [int(word) for word in PUBLISHED.split()]
    assert len(expected) == 80
    assert [m.source for m in match_names(objects365, COCO)] == expected


def test_the_correspondence_holds_the_other_way_round(objects365: list[str]) -> None:
    found = match_names(COCO, objects365)
    for label, index in enumerate(int(word) for word in PUBLISHED.split()):
        assert found[index].source == label, objects365[index]


@pytest.mark.parametrize("names", ["coco", "objects365"])
def test_a_label_set_matches_itself(names: str, objects365: list[str]) -> None:
    own = {"coco": COCO, "objects365": objects365}[names]
    assert match_names(own, own) == tuple(Match(i, "name") for i in range(len(own)))


def test_the_classes_of_voc_are_all_in_coco() -> None:
    voc = [
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ]
    found = match_names(COCO, voc)
    assert [COCO[m.source] for m in found if m.source is not None] == [
        "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
        "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
    ]  # fmt: skip


def test_a_name_counts_more_than_a_synonym_and_a_whole_name_more_than_a_part() -> None:
    assert match_names(["monitor/tv", "tv"], ["TV"]) == (Match(1, "name"),)
    assert match_names(["couch", "sofa"], ["Sofas"]) == (Match(1, "name"),)
    assert match_names(["couch"], ["sofa"]) == (Match(0, "synonym"),)
    assert match_names(["Handbag/Satchel"], ["satchels"]) == (Match(0, "name"),)


def test_what_nothing_is_known_of_starts_fresh() -> None:
    assert match_names(COCO, ["widget", "cat"]) == (Match(None, "fresh"), Match(15, "name"))
    assert match_names([], ["cat"]) == (Match(None, "fresh"),)
    assert match_names(COCO, []) == ()


def test_a_class_map_counts_more_than_names() -> None:
    found = match_names(
        ["cat", "dog"], ["kitten", "cat", "dog"], {"Kittens": "Cat", "cat": "none", "dog": "0"}
    )
    assert found == (Match(0, "class map"), Match(None, "class map"), Match(0, "class map"))


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        ({"kitten": "cat"}, "no class 'kitten' of the data", "there are: cat"),
        ({"cat": "doog"}, "no class 'doog' in the weights", "did you mean dog?"),
        ({"cat": "2"}, "no class '2' in the weights", "there are: cat, dog"),
    ],
)
def test_a_class_map_with_an_unknown_name_is_refused(
    overrides: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        match_names(["cat", "dog"], ["cat"], overrides)
    assert message in caught.value.message and hint in caught.value.hint


def test_a_name_stands_once_in_a_row_of_synonyms() -> None:
    for row in SYNONYMS:
        assert len(set(map(normal_form, row))) == len(row)
