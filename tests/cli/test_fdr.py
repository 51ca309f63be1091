"""``dfine visualize --to fdr``: the edge distributions of a checkpoint's boxes."""

import json
from pathlib import Path

import cv2
import pytest

from tests.cli.conftest import Run


@pytest.fixture
def image(trained: Path) -> Path:
    return min((trained / "data" / "val").iterdir())


def test_the_best_detections_of_an_image(run: Run, trained: Path, image: Path, tmp_path: Path) -> None:
    words = ("visualize", trained / "toy", image, "--to", "fdr", "--device", "cpu")
    code, out, err = run(*words)
    assert code == 0 and out == "fdr: 3 figures of 1 images\n", err
    assert sorted(p.name for p in (tmp_path / "fdr").iterdir()) == [
        f"{image.stem}_{n}.png" for n in (1, 2, 3)
    ]
    second = tmp_path / "fdr" / f"{image.stem}_2.png"
    content = json.loads(run(*words, "--object", 2, "--out", tmp_path / "one", "--json").out)
    assert content["files"] == [str(tmp_path / "one" / second.name)]
    assert (cv2.imread(content["files"][0]) == cv2.imread(str(second))).all()
    refused = run(*words)
    assert refused.code == 2 and f"{image.stem}_1.png is there already, as are 2 more" in refused.err
    assert json.loads(run(*words, "--threshold", 1, "--json", "--force").out)["files"] == []


def test_a_folder_with_an_image_that_cannot_be_read(
    run: Run, trained: Path, image: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.png").write_bytes(image.read_bytes())
    (folder / "bad.png").write_bytes(image.read_bytes()[:200])
    words = ("visualize", trained / "toy", "--to", "fdr", "--object", 1)
    code, out, err = run(*words[:2], folder, *words[2:])
    assert (code, out) == (0, "fdr/good_1.png\n") and "note:" in err and "bad.png" in err
    alone = run(*words[:2], folder / "bad.png", *words[2:])
    assert alone.code == 4 and "bad.png" in alone.err and "hint:" in alone.err


def test_a_split_of_a_dataset(run: Run, trained: Path, tmp_path: Path) -> None:
    """Images of the split alone, not all that lie in the folder of the dataset."""
    words = ("visualize", trained / "toy", trained / "data", "--to", "fdr", "--object", 1, "--split")
    for split in ("train", "val"):
        content = json.loads(run(*words, split, "--out", tmp_path / split, "--json").out)
        names = {path.stem for path in (trained / "data" / split).iterdir()}
        assert content["images"] == len(names)
        assert {Path(file).stem for file in content["files"]} == {f"{name}_1" for name in names}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN"], "give the image"),
        (["results.json", "IMAGE"], "no edge distributions"),
        (["model.onnx", "IMAGE"], "boxes alone"),
        (["RUN", "gone.png"], "no such file"),
        (["RUN", "IMAGE", "--object", 10_000], "gives 100 detections"),
    ],
)
def test_what_has_no_distributions(
    run: Run, trained: Path, image: Path, tmp_path: Path, words: list[object], message: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"exported")
    outcome = run(
        "visualize",
        *({"RUN": trained / "toy", "IMAGE": image}.get(word, word) for word in words),
        "--to",
        "fdr",
    )
    assert outcome.code == 2 and message in outcome.err and "hint:" in outcome.err
    assert not (tmp_path / "fdr").exists()
