"""Class maps on the command line and in files."""

from pathlib import Path

import pytest

from dfine_cli.config.class_map import gather_class_map
from dfine_cli.errors import UsageError


def test_entries_and_files_together(tmp_path: Path) -> None:
    yaml, json = tmp_path / "map.yaml", tmp_path / "map.json"
    yaml.write_text("helmet: Hard Hat\nwidget:\n7: cat\n")
    json.write_text('{"bike": "bicycle"}')
    assert gather_class_map([str(yaml), "a=b", str(json)]) == [
        "helmet=Hard Hat", "widget=none", "7=cat", "a=b", "bike=bicycle",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "is not a mapping"),
        ("a: {b: c}\n", "is not a mapping"),
        ("a: [\n", "cannot be read"),
        ("", "not a map"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        gather_class_map([str(path)])


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        gather_class_map([str(tmp_path / "none.yaml")])
    with pytest.raises(UsageError, match="cannot be read"):
        gather_class_map([str(tmp_path)])
