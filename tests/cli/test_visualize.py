"""``dfine visualize``: what goes in, what comes out."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dfine_cli import checkpoint_format as keys
from dfine_cli.types import Detections
from dfine_cli.visualize import pictures
from dfine_cli.visualize.draw import class_colour
from dfine_cli.visualize.film import Film
from tests.cli.conftest import Run
from tests.cli.test_eval_explained import Finder, good, run_folder

__all__ = ["good", "run_folder"]


def test_a_results_file_as_pictures_and_as_a_page(
    run: Run, dataset: Path, good: Path, tmp_path: Path
) -> None:
    code, out, err = run("visualize", good, dataset)
    assert code == 0, err
    assert out == "pictures: 10 pictures\n" and len(list((tmp_path / "pictures").iterdir())) == 10
    assert "the best F1 on this data" in err
    code, out, _ = run("visualize", good, dataset, "--to", "html", "--out", tmp_path / "page", "--json")
    content = json.loads(out)
    assert code == 0 and content["files"] == [str(tmp_path / "page" / "index.html")]
    assert content["threshold"] == pytest.approx(0.45) and content["unread"] == 0


def test_a_run_uses_the_threshold_that_an_evaluation_stored(
    run: Run, dataset: Path, run_folder: Path
) -> None:
    words = ("visualize", run_folder, dataset / "val", "--workers", 0, "--json", "--force")
    before = json.loads(run(*words).out)
    assert (before["threshold"], before["images"]) == (0.4, 10)
    assert run("eval", run_folder, "--workers", 0).code == 0
    after = json.loads(run(*words).out)
    assert after["threshold"] == pytest.approx(0.3) and "stored with the model" in after["threshold_is"]
    own = json.loads(run(*words[:2], *words[3:], "--threshold", 0.7).out)
    assert (own["threshold"], own["threshold_is"], own["images"]) == (0.7, "given", 10)


def test_a_single_image_into_a_single_file(run: Run, run_folder: Path, dataset: Path, tmp_path: Path) -> None:
    image = dataset / "val" / "val_40.png"
    code, out, err = run("visualize", run_folder, image, "--workers", 0, "--out", "new/boxes.jpg")
    assert (code, out) == (0, "new/boxes.jpg\n"), err
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["boxes.jpg"]
    refused = run("visualize", run_folder, image, "--workers", 0, "--out", image, "--force")
    assert refused.code == 2 and "is the image itself" in refused.err
    (tmp_path / "mine.jpg").write_text("mine")
    words = ("visualize", run_folder, image, "--workers", 0, "--out", "mine.jpg")
    code, out, err = run(*words)
    assert (code, out) == (2, "") and "is there already" in err and "--force" in err
    assert (tmp_path / "mine.jpg").read_text() == "mine"
    assert run(*words, "--force").code == 0 and cv2.imread("mine.jpg") is not None


def test_pictures_that_are_there_are_kept(run: Run, good: Path, dataset: Path) -> None:
    Path("mine").mkdir()
    for name in ("val_41.png", "val_43.png"):
        Path("mine", name).write_text("mine")
    words = ("visualize", good, dataset, "--out", "mine")
    code, out, err = run(*words)
    assert (code, out) == (2, "") and "val_41.png is there already, as are 1 more" in err and "--force" in err
    assert [path.read_text() for path in Path("mine").iterdir()] == ["mine", "mine"]
    assert run(*words, "--force").code == 0 and cv2.imread("mine/val_41.png") is not None
    code, _, err = run(*words[:-1], dataset / "val")
    assert code == 2 and "is the image itself" in err


@pytest.mark.parametrize("to", ["images", "html"])
def test_a_single_image_that_cannot_be_read_is_named(run: Run, run_folder: Path, to: str) -> None:
    Path("broken.jpg").write_text("no image")
    code, out, err = run("visualize", run_folder, "broken.jpg", "--to", to)
    assert (code, out) == (4, "") and "error: broken.jpg: " in err and "hint:" in err


def test_what_is_finished_when_it_is_interrupted(
    run: Run, good: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pictures.write_picture

    def write(path: Path, picture: np.ndarray) -> None:
        if path.name == "val_42.png":
            raise KeyboardInterrupt
        whole(path, picture)

    monkeypatch.setattr(pictures, "write_picture", write)
    code, out, err = run("visualize", good, dataset)
    assert (code, out) == (130, "")
    assert "error: interrupted; finished pictures stay: 2, up to pictures/val_41.png\n" in err
    assert "--force" in err


@pytest.mark.parametrize("to", ["images", "html"])
def test_no_image_that_can_be_read_is_no_success(run: Run, good: Path, dataset: Path, to: str) -> None:
    Path("nothing").mkdir()
    words = (dataset / "annotations" / "instances_val.json", "--images", "nothing")
    code, out, err = run("visualize", good, *words, "--to", to)
    assert (code, out) == (1, "") and "none of the 10 images can be read" in err and "--images" in err
    assert not list(Path().glob("pictures/*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["GOOD"], "which data"),
        (["gone.pt", "x"], "no such file"),
        (["RUN", "empty"], "no images"),
        (["RUN", "mk.py"], "mk.py: neither an image nor annotations"),
        (["RUN", "rtsp://camera/1"], "is a stream or camera"),
        (["RUN", "--out", "mk.py"], "mk.py: is a file"),
        (["RUN", "--out", "boxes.png"], "is one file"),
        (["RUN", "--out", "mk.py/x"], "mk.py is a file"),
        (["RUN", "--to", "html", "--out", "mk.py"], "mk.py: is a file"),
        (["RUN", "pictures", "--images", "empty"], "--images empty: pictures is what is shown"),
        *(
            (["GOOD", "empty", "--to", "images", *option], f"{option[0]} has no use for --to images")
            for option in (
                ["--frames", "5"],
                ["--seconds", "2"],
                ["--object", "3"],
                ["--port", "99"],
                ["--remote"],
                ["--dataset", "foo"],
                ["--no-app"],
            )
        ),
        (["GOOD", "empty", "--to", "html", "--force"], "--force has no use for --to html"),
        (["RUN", "a.mp4", "--to", "video", "--split", "val"], "--split has no use for --to video"),
        (["GOOD", "empty", "--device", "cpu"], "--device is for a model"),
        (["GOOD", "empty", "--to", "fiftyone", "--no-app", "--port", "99"], "--port is for the App"),
    ],
)
def test_wrong_words(
    run: Run, good: Path, run_folder: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "mk.py").write_text("pass")
    outcome = run("visualize", *({"GOOD": good, "RUN": run_folder}.get(word, word) for word in words))
    assert outcome.code == 2 and message in outcome.err and "hint:" in outcome.err


def test_each_class_has_its_own_threshold(run: Run, run_folder: Path, dataset: Path, tmp_path: Path) -> None:
    """``Finder`` gives cats 0.8 and dogs 0.6 wherever it looks."""
    point = {"threshold": 0.5, "classes": [0.9, None], "precision": 1, "recall": 1, "f1": 1}
    checkpoint = run_folder / "weights" / "best.pt"
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, keys.OPERATING_POINT: point}, checkpoint)
    image = dataset / "val" / "val_40.png"
    words = ("visualize", run_folder, image, "--workers", 0, "--out")
    assert run(*words, "all.png").code == 0 and run(*words, "own.png", "--by-class").code == 0
    both, dogs = (cv2.imread(str(tmp_path / name))[..., ::-1] for name in ("all.png", "own.png"))
    assert (both == class_colour(0)).all(-1).any() and not (dogs == class_colour(0)).all(-1).any()
    assert (dogs == class_colour(1)).all(-1).any()
    refused = run(*words, "x.png", "--by-class", "--threshold", 0.5)
    assert refused.code == 2 and "--by-class" in refused.err


def test_thresholds_of_classes_from_ground_truth(run: Run, good: Path, dataset: Path) -> None:
    words = ("visualize", good, dataset, "--json", "--force")
    assert json.loads(run(*words, "--by-class").out)["threshold"] == json.loads(run(*words).out)["threshold"]
    assert run(*words, "--by-class", "--to", "html").code == 2


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of 30 frames."""
    film = Film(tmp_path / "clip.mp4", 10, (48, 64))
    for i in range(30):
        film.write(np.full((48, 64, 3), 8 * i, np.uint8))
    film.finish()
    return tmp_path / "clip.mp4"


def test_a_video(run: Run, run_folder: Path, clip: Path, tmp_path: Path) -> None:
    code, out, err = run("visualize", run_folder, clip, "--to", "video")
    assert code == 0 and out.startswith("clip_boxes.mp4: 30 frames of 64x48, 10 a second; "), err
    assert "images/s" in out and "threshold 0.400: a usual value" in err and "H.264" in err
    assert run("eval", run_folder, "--workers", 0).code == 0
    words = ("visualize", run_folder, clip, "--to", "video", "--out", tmp_path / "new" / "b.avi", "--json")
    content = json.loads(run(*words, "--seconds", 1).out)
    assert (content["frames"], content["fps"], content["size"]) == (10, 10, [48, 64])
    assert content["threshold"] == pytest.approx(0.3) and content["missing"] == 0
    assert (tmp_path / "new" / "b.avi").is_file()
    refused = run(*words)
    assert refused.code == 2 and "is there already" in refused.err
    assert run(*words, "--force").code == 0


def test_a_cut_video_is_written_as_far_as_it_goes(run: Run, run_folder: Path, tmp_path: Path) -> None:
    film = Film(tmp_path / "whole.mkv", 10, (48, 64))
    for i in range(30):
        film.write(np.random.default_rng(i).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    film.finish()
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    code, _, err = run("visualize", run_folder, "cut.mkv", "--to", "video")
    assert code == 0 and "cut off or damaged" in err and "of 30 frames could be decoded" in err
    assert (tmp_path / "cut_boxes.mp4").is_file()


def test_ctrl_c_in_a_video(
    run: Run, run_folder: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = iter([False] * 5 + [True])

    class Interrupted(Finder):
        def detect(self, images: object, sizes: list[tuple[int, int]]) -> list[Detections]:
            if next(passes):
                raise KeyboardInterrupt
            return super().detect(images, sizes)

    monkeypatch.setattr("dfine_cli.backends.detector.open_detector", lambda path, options=None: Interrupted())
    code, out, err = run("visualize", run_folder, clip, "--to", "video")
    assert (code, out) == (130, "") and "clip_boxes.mp4: 5 frames" in err
    assert (tmp_path / "clip_boxes.mp4").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["GOOD", "clip.mp4"], "runs a model"),
        (["RUN"], "give the video"),
        (["RUN", "gone.mp4"], "no such file"),
        (["RUN", "camera:97"], "no such camera"),
        (["RUN", "clip.mp4", "--out", "x.gif"], "`.gif` files"),
        (["RUN", "clip.mp4", "--out", "clip.mp4", "--force"], "the video itself"),
    ],
)
def test_wrong_words_for_a_video(
    run: Run, good: Path, run_folder: Path, clip: Path, words: list[str], message: str
) -> None:
    chosen = ({"GOOD": good, "RUN": run_folder}.get(word, word) for word in words)
    outcome = run("visualize", *chosen, "--to", "video")
    assert outcome.code in (2, 3) and message in outcome.err and "hint:" in outcome.err


def test_fiftyone_that_is_not_installed_is_two_lines(
    run: Run, good: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    code, out, err = run("visualize", good, dataset, "--to", "fiftyone")
    assert (code, out) == (3, "")
    assert err.splitlines() == [
        "error: fiftyone is not installed",
        'hint: pip install "dfine-cli[fiftyone]"',
    ]
    code, _, err = run("visualize", good, dataset, "--to", "fiftyone", "--out", "x")
    assert code == 2 and "--out has no use here" in err
