"""Opening a detector by what the path is."""

from pathlib import Path

import pytest

from dfine_cli.backends import detector
from dfine_cli.errors import UsageError


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    return folder


@pytest.fixture
def opened(monkeypatch):
    """Paths that the opener for .pt was asked to open."""
    paths: list[tuple[Path, str]] = []
    monkeypatch.setitem(detector.OPENERS, ".pt", lambda path, options: paths.append((path, options.device)))
    return paths


def test_a_file_is_opened_by_its_suffix(tmp_path, opened):
    file = tmp_path / "some.PT"
    file.touch()
    detector.open_detector(file, "cpu")
    assert opened == [(file, "cpu")]


def test_a_run_folder_gives_its_best_weights(run, opened):
    for name in ("best.pt", "last.pt"):
        (run / "weights" / name).touch()
    detector.open_detector(run)
    assert opened == [(run / "weights" / "best.pt", "auto")]


def test_a_run_without_best_weights_points_to_the_last(run):
    (run / "weights" / "last.pt").touch()
    with pytest.raises(UsageError, match=r"no weights/best\.pt") as error:
        detector.open_detector(run)
    assert "last.pt" in error.value.hint


def test_an_unknown_suffix_lists_the_known_ones(tmp_path):
    file = tmp_path / "model.h5"
    file.touch()
    with pytest.raises(UsageError, match=r"\.h5") as error:
        detector.open_detector(file)
    assert ".pt, .pth" in error.value.hint


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(UsageError, match="gone: no such file or folder"):
        detector.open_detector(tmp_path / "gone")
