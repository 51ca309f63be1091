"""``dfine demo`` end to end at toy size, and what it refuses before it writes anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.cli.conftest import Run

TOY = ("--images", 8, "--size", 64, "--epochs", 1, "--device", "cpu")


def test_the_tour_leaves_all_it_promises(run: Run, tmp_path: Path) -> None:
    code, out, err = run("demo", *TOY, "--json")
    assert code == 0, err
    said = json.loads(out)
    folder = Path(said["run"])
    assert folder == Path("demo/runs/demo")
    assert Path("demo/run.yaml").is_file()
    row = json.loads((folder / "metrics.jsonl").read_text())
    assert row["epoch"] == 1 and np.isfinite(row["loss"])
    # The best weights, opened from their file, score what they scored in the run.
    assert said["numbers"]["AP"] == pytest.approx(row["ap"], abs=1e-6)
    for picture in (folder / "curves.png", Path(said["sheet"])):
        assert np.asarray(Image.open(picture)).std() > 1, picture
    assert {p.name for p in (folder / "weights").iterdir()} == {"best.pt", "last.pt"}
    assert f"next: dfine eval {folder} {said['data']}" in err
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".part", ".tmp")]
    # A second tour keeps the first run.
    code, out, _ = run("demo", *TOY)
    assert code == 0 and "pictures: demo/runs/demo-2/pictures.png" in out.splitlines()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--size", 65), 2, "65 is not a multiple of 32; near it are 64 and 96"),
        (("--size", 32), 2, "--size"),
        (("--size", 8192), 2, "4096"),
        (("--images", 7), 2, "--images"),
        (("--images", "many"), 2, "--images"),
        (("--epochs", 0), 2, "--epochs"),
        (("--seed", -1), 2, "--seed"),
        (("--device", "warp"), 3, "device 'warp' is not there"),
        (("--sheet", "x"), 2, "--sheet"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    run: Run, tmp_path: Path, words: tuple[object, ...], code: int, told: str
) -> None:
    done = run("demo", *words)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ") and told in done.err and len(done.err.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    code, out, err = run("demo", *TOY, "--out", "taken")
    assert (code, out) == (2, "")
    assert "taken" in err and "Traceback" not in err and "bug" not in err
