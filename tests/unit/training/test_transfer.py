"""Rows of class heads carried over by name."""

import pytest
import torch

from dfine_cli.data.objects365 import HEAD_ROWS, OBJECTS365
from dfine_cli.errors import UsageError
from dfine_cli.model.decoder import PRIOR
from dfine_cli.model.dfine import build_model
from dfine_cli.training.start import read_class_map
from dfine_cli.training.transfer import Transfer, carry_rows, is_class_row

THEIRS = ("cat", "traffic light", "sofa", "dog")
OURS = ("Dogs", "widget", "couch")


def test_the_rows_of_every_class_head_follow_their_class() -> None:
    theirs = build_model("n", len(THEIRS)).state_dict()
    fresh = build_model("n", len(OURS)).state_dict()
    transfer = Transfer.by_name(THEIRS, OURS)
    carried = carry_rows(theirs, fresh, transfer.matches)
    class_rows = [key for key in fresh if is_class_row(key)]
    assert len(class_rows) == 2 + 2 * 3 + 1, "encoder score head, three decoder score heads, the embedding"
    for key in class_rows:
        assert carried[key].shape == fresh[key].shape
        assert torch.equal(carried[key][0], theirs[key][3]), key
        assert torch.equal(carried[key][1], fresh[key][1]), key
        assert torch.equal(carried[key][2], theirs[key][2]), key
    assert carried["decoder.denoising_class_embed.weight"][3].eq(0).all(), "the padding"
    assert all(carried[k] is v for k, v in theirs.items() if not is_class_row(k))


def test_rows_of_unknown_classes_have_the_published_prior() -> None:
    theirs, fresh = (build_model("n", n).state_dict() for n in (4, 3))
    carried = carry_rows(theirs, fresh, Transfer.by_name(THEIRS, ("a", "b", "c")).matches)
    for key, value in carried.items():
        if is_class_row(key) and key.endswith("bias"):
            torch.testing.assert_close(value.sigmoid(), torch.full_like(value, PRIOR))


@pytest.mark.parametrize("size", "nsmlx")
def test_every_entry_that_depends_on_the_classes_is_a_class_row(size: str) -> None:
    with torch.device("meta"):
        few, many = build_model(size, 2).state_dict(), build_model(size, 9).state_dict()
    assert [k for k in few if few[k].shape != many[k].shape] == [k for k in few if is_class_row(k)]


def test_the_report_says_what_came_from_what() -> None:
    transfer = Transfer.by_name(THEIRS, OURS, {"widget": "cat"})
    assert transfer.warm == {
        "Dogs": ("dog", "name"),
        "widget": ("cat", "class map"),
        "couch": ("sofa", "synonym"),
    }
    assert transfer.tell() == [
        "3 of 3 classes are warm-started: Dogs <- dog, widget <- cat (class map), couch <- sofa (synonym)"
    ]
    assert Transfer.by_name(THEIRS, ("cat", "widget")).tell() == [
        "1 of 2 classes are warm-started: cat",
        "1 start fresh: widget",
    ]
    assert Transfer.by_name(THEIRS, OURS).to_dict()["fresh"] == ["widget"]


def test_objects365_rows_are_category_ids() -> None:
    assert (len(OBJECTS365), len(HEAD_ROWS)) == (365, 366)
    transfer = Transfer.by_name(HEAD_ROWS, ("person", "table tennis", "unused", ""))
    assert [m.source for m in transfer.matches] == [1, 365, None, None]


def test_objects365_names_are_those_of_the_data_set(shared) -> None:
    import json

    content = json.loads((shared / "data" / "classes" / "objects365.json").read_text())
    assert tuple(c["name"] for c in content["classes"]) == OBJECTS365


def test_a_class_map_is_read() -> None:
    assert read_class_map(["helmet = Hard Hat", "a=b=c", "x="]) == {"helmet": "Hard Hat", "a": "b=c", "x": ""}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["helmet"], "must be mine=theirs"),
        (["=cat"], "must be mine=theirs"),
        (["a=b", "a=c"], "stands twice"),
    ],
)
def test_a_wrong_class_map_is_refused(entries: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_class_map(entries)
