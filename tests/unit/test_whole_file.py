"""Files that appear whole or not at all."""

from pathlib import Path

import pytest

from dfine_cli.errors import DfineError
from dfine_cli.whole_file import whole_file, whole_files, write_whole


def test_a_file_takes_the_place_of_the_one_before_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    write_whole(path, b"old", "--out")
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_an_interrupt_leaves_the_file_before_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_files_that_belong_together_are_replaced_together(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    with pytest.raises(OSError, match="full"), whole_files(*paths) as parts:
        parts[0].write_text("new")
        raise OSError(28, "the disk is full")
    assert list(tmp_path.iterdir()) == []
    with whole_files(*paths) as parts:
        for part in parts:
            part.write_text("new")
    assert sorted(tmp_path.iterdir()) == paths


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DfineError, match="file") as caught:
        write_whole(tmp_path / "file" / "report.html", b"", "--report")
    assert "--report" in caught.value.hint
