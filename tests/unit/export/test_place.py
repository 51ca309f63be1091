"""Where exported files go."""

from __future__ import annotations

import pytest

from dfine_cli.artefact import Artefact, BatchRange
from dfine_cli.errors import DfineError, UsageError
from dfine_cli.export.place import check_place, clear, default_place, failed_name, move, workshop

CLASSES = {"names": ["cell"], "category_ids": [1], "rule": "auto"}


@pytest.fixture
def ours(tmp_path):
    """An export of ours, with its description."""
    file = tmp_path / "model.onnx"
    file.write_bytes(b"graph")
    described = Artefact("dfine-n", "n", "published", (64, 64), BatchRange(1, 1, 1), CLASSES, {})
    (tmp_path / "model.onnx.json").write_text(described.to_json())
    return file


def test_a_run_keeps_its_exports(tmp_path):
    (tmp_path / "recipe.yaml").touch()
    assert default_place(tmp_path / "weights" / "best.pt", "n.onnx") == tmp_path / "export" / "n.onnx"


def test_others_are_beside_their_checkpoint_and_pulled_ones_here(tmp_path, monkeypatch):
    assert default_place(tmp_path / "a" / "best.pt", "n.onnx") == tmp_path / "a" / "n.onnx"
    monkeypatch.setenv("DFINE_HOME", str(tmp_path))
    assert str(default_place(tmp_path / "weights" / "n.pth", "n.onnx")) == "n.onnx"


def test_an_export_of_ours_may_be_replaced(ours):
    check_place(ours, ".onnx", force=False)


@pytest.mark.parametrize("beside", [None, "{", "[]"])
def test_a_file_of_others_may_not(tmp_path, beside):
    file = tmp_path / "other.onnx"
    file.write_bytes(b"theirs")
    if beside:
        (tmp_path / "other.onnx.json").write_text(beside)
    with pytest.raises(UsageError, match="not an export of dfine"):
        check_place(file, ".onnx", force=False)
    check_place(file, ".onnx", force=True)


def test_folders_and_other_suffixes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        check_place(tmp_path, ".onnx", force=True)
    with pytest.raises(UsageError, match=r"must end with \.onnx"):
        check_place(tmp_path / "model.xml", ".onnx", force=True)


def test_what_belongs_together_moves_together(tmp_path):
    place = tmp_path / "deep" / "net.v2.xml"
    with workshop(place) as folder:
        for name in ("model.xml", "model.bin", "model.xml.json"):
            (folder / name).write_text(name)
        files = move(folder / "model.xml", failed_name(place))
    assert [file.name for file in files] == [
        "net.v2.failed.xml",
        "net.v2.failed.xml.json",
        "net.v2.failed.bin",
    ]
    assert sorted(place.parent.iterdir()) == sorted(files)


def test_a_new_export_takes_the_place_of_the_old(ours, tmp_path):
    (tmp_path / "other.txt").touch()
    clear(ours)
    assert [file.name for file in tmp_path.iterdir()] == ["other.txt"]


def test_nothing_stays_of_work_that_fails(tmp_path):
    with (
        pytest.raises(DfineError, match="No space left") as stop,
        workshop(tmp_path / "model.onnx") as folder,
    ):
        (folder / "half.onnx").touch()
        raise OSError(28, "No space left on device")
    assert "free some space" in stop.value.hint and not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DfineError, match="file"), workshop(tmp_path / "file" / "model.onnx"):
        pass
