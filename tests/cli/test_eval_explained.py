"""``dfine eval``: results files of other tools, comparison, reports, and the threshold kept in a checkpoint."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dfine_cli import checkpoint_format as keys
from dfine_cli.config.load import load_recipe
from dfine_cli.config.write import write_recipe
from dfine_cli.data.classes import ClassMap
from dfine_cli.types import Detections
from tests.cli.conftest import Run

RIGHT, WRONG = [4, 4, 20, 30], [40, 10, 20, 30]


def results(score: float = 0.9, wrong: int = 0) -> list[dict[str, object]]:
    """Results for the ten validation images of ``dataset``, the first ``wrong`` of them in the wrong place."""
    return [
        {
            "image_id": i,
            "category_id": 3 + 4 * (i % 2),
            "bbox": WRONG if i < 40 + wrong else RIGHT,
            "score": score,
        }
        for i in range(40, 50)
    ]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.json"
    file.write_text(json.dumps(results(wrong=2)))
    return file


class Finder:
    """Finds the object of ``dataset`` in every image, as either class."""

    name = "finder"
    classes = ClassMap(("cat", "dog"), (3, 7), "auto")
    input_size = (64, 64)
    exif = "apply"

    def __init__(self, operating_point: dict[str, object] | None = None) -> None:
        self.operating_point = operating_point

    def detect(self, images: object, sizes: list[tuple[int, int]]) -> list[Detections]:
        boxes = np.array([[4, 4, 24, 34]] * 2, np.float32)
        return [Detections(boxes, np.array([0.8, 0.6], np.float32), np.array([0, 1])) for _ in sizes]


@pytest.fixture
def run_folder(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on ``dataset`` whose checkpoint has no network; ``Finder`` stands in for it."""
    paths = [
        f"data.{split}_{kind}={json.dumps(str(place))}"
        for split in ("train", "val")
        for kind, place in (
            ("json", dataset / "annotations" / f"instances_{split}.json"),
            ("images", dataset / split),
        )
    ]
    folder = tmp_path / "runs" / "pets"
    (folder / "weights").mkdir(parents=True)
    write_recipe(load_recipe("finetune/n", paths).recipe, folder / "recipe.yaml")
    torch.save(
        {keys.FORMAT_KEY: keys.FORMAT, keys.SIZE: "n", "w": torch.ones(3)}, folder / "weights" / "best.pt"
    )
    monkeypatch.setattr(
        "dfine_cli.backends.detector.open_detector", lambda path, options=None: Finder(stored(folder))
    )
    return folder


def stored(folder: Path) -> dict[str, object] | None:
    content = torch.load(folder / "weights" / "best.pt", weights_only=True)
    assert torch.equal(content["w"], torch.ones(3)) and content[keys.SIZE] == "n"
    return content.get(keys.OPERATING_POINT)


def test_a_results_file_is_explained(run: Run, dataset: Path, good: Path) -> None:
    code, out, err = run("eval", "--predictions", good, dataset)
    assert code == 0, err
    for title in (
        "COCO metrics",
        "Operating point",
        "Where AP is lost",
        "Classes",
        "Confusion",
        "Calibration",
    ):
        assert f"\n{title}" in out
    assert "0.8" in out and "background" in out


def test_json_has_the_numbers(run: Run, dataset: Path, good: Path) -> None:
    code, out, _ = run("eval", "--predictions", good, dataset, "--json")
    content = json.loads(out)
    assert code == 0 and content["schema_version"] == 1 and content["predictions"] == str(good)
    assert content["operating_point"] == pytest.approx(
        {"threshold": 0.45, "precision": 0.8, "recall": 0.8, "f1": 0.8}
    )
    assert content["errors"]["background"]["count"] == 2
    assert (content["images"], content["boxes"], content["detections"]) == (10, 10, 10)


def test_the_largest_number_of_detections_is_an_option(run: Run, dataset: Path, good: Path) -> None:
    content = json.loads(run("eval", "--predictions", good, dataset, "--json", "--max-dets", 300).out)
    assert "AR300" in content["metrics"] and content["max_dets"] == [1, 10, 300]


def test_comparison_with_other_results(run: Run, dataset: Path, good: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(results(wrong=9)))
    code, out, err = run("eval", "--predictions", good, dataset, "--compare", bad)
    assert code == 0, err
    assert "the gain is real" in out and "1000 resamples" in out
    content = json.loads(run("eval", "--predictions", bad, dataset, "--compare", good, "--json").out)
    assert content["comparison"]["ap"]["verdict"] == "worse" and content["comparison"]["with"] == "good.json"
    assert len(content["comparison"]["images"]) == 7


def test_reports(run: Run, dataset: Path, good: Path, tmp_path: Path) -> None:
    assert run("eval", "--predictions", good, dataset, "--report", tmp_path / "out").code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json", "report.md"]
    shown = json.loads(run("eval", "--predictions", good, dataset, "--json").out)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {k: written[k] for k in ("metrics", "operating_point", "errors", "calibration")} == {
        k: shown[k] for k in ("metrics", "operating_point", "errors", "calibration")
    }
    assert run("eval", "--predictions", good, dataset, "--report", tmp_path / "one.md").code == 0
    assert (tmp_path / "one.md").read_text() == (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("report.pdf", 2, ".pdf"),
        ("good.json/report.html", 2, "good.json is a file"),
        ("taken", 2, "is a file"),
    ],
)
def test_reports_that_cannot_be_written(
    run: Run, dataset: Path, good: Path, tmp_path: Path, target: str, code: int, message: str
) -> None:
    (tmp_path / "taken").write_text("")
    outcome = run("eval", "--predictions", good, dataset, "--report", tmp_path / target)
    assert outcome.code == code and message in outcome.err and "hint:" in outcome.err
    assert json.loads(good.read_text()) == results(wrong=2)


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("", 4, "the file is empty"),
        ('[{"image_id": 40', 4, "not a JSON file"),
        (json.dumps([{**r, "image_id": 7} for r in results()]), 4, "image id"),
        (json.dumps([{**r, "category_id": i % 2} for i, r in enumerate(results())]), 4, "class indices"),
        (json.dumps([{**r, "bbox": [4, 4, 24, 34]} for r in results()]), 4, "[x1, y1, x2, y2]"),
        (json.dumps(results(score=90)), 4, "outside 0..1"),
    ],
    ids=["empty", "cut off", "images", "categories", "corners", "scores"],
)
def test_wrong_results(
    run: Run, dataset: Path, tmp_path: Path, content: str, code: int, message: str
) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(content)
    outcome = run("eval", "--predictions", file, dataset)
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err and "hint:" in outcome.err
    assert outcome.err.startswith(f"error: {file}: ")


@pytest.mark.parametrize("bbox", ["a b c d", ["4", 4, 24, 34], [4, 4, 24], None, [4, 4, 24, 1e999]])
def test_a_wrong_box_of_the_annotations_is_named(run: Run, dataset: Path, good: Path, bbox: object) -> None:
    file = dataset / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"][3]["bbox"] = bbox
    file.write_text(json.dumps(content))
    outcome = run("eval", "--predictions", good, dataset)
    assert (outcome.code, outcome.out) == (4, "")
    assert f"{file}: not COCO annotations: annotations[3] (id " in outcome.err and "hint:" in outcome.err


def test_annotations_that_look_like_corners_are_doubted(run: Run, dataset: Path, good: Path) -> None:
    assert "x1, y1, x2, y2" not in run("eval", "--predictions", good, dataset).err
    file = dataset / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["bbox"] = [40, 30, 60, 44]
    file.write_text(json.dumps(content))
    outcome = run("eval", "--predictions", good, dataset)
    assert outcome.code == 0 and f"warning: {file}: many boxes reach out of their images" in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN", "DATA", "--predictions", "good.json"], "only one of them"),
        (["DATA", "--predictions", "good.json", "--out", "p.json"], "--out is for what a model finds"),
        (
            ["DATA", "--predictions", "good.json", "--store-threshold"],
            "--store-threshold is for what a model",
        ),
        *(
            (["DATA", "--predictions", "good.json", *option], f"{option[0]} is for a model")
            for option in (
                ["--device", "cpu"],
                ["--input-size", "320"],
                ["--classes", "good.json"],
                ["--batch", "16", "--compare", "good.json"],
                ["--workers", "2"],
            )
        ),
        (["RUN", "--store-threshold", "--max-dets", "1"], "1 detections is not that of 100"),
        (["RUN", "--out", "good.json/p.json"], "good.json is a file"),
        (["RUN", "--report", "good.json/r"], "good.json is a file"),
        (["RUN", "--sheet", "good.json/s.png"], "good.json is a file"),
        (["RUN", "--out", "ANNOTATIONS"], "would be written over the annotations"),
        (["DATA", "--predictions", "good.json", "--report", "ANNOTATIONS"], "over the annotations"),
        (["DATA", "--predictions", "good.json", "--report", "good.json"], "over the results"),
        (["DATA", "--predictions", "good.json", "--report", "linked"], "over the results"),
        (["RUN", "--compare", "good.json", "--out", "good.json"], "over what it is compared with"),
        (["RUN", "--out", "WEIGHTS"], "over the weights"),
        (["RUN", "--sheet", "weights.png"], "over the weights"),
    ],
)
def test_words_that_cannot_be_are_refused_before_anything_is_done(
    run: Run, dataset: Path, good: Path, run_folder: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    named = {
        "RUN": run_folder,
        "DATA": dataset,
        "ANNOTATIONS": dataset / "annotations" / "instances_val.json",
        "WEIGHTS": run_folder / "weights" / "best.pt",
    }
    (tmp_path / "weights.png").symlink_to(named["WEIGHTS"])
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "report.json").hardlink_to(good)

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = content()
    outcome = run("eval", *(named.get(word, word) for word in words))
    assert (outcome.code, outcome.out) == (2, "") and message in outcome.err
    assert len(outcome.err.splitlines()) == 2 and "hint:" in outcome.err
    assert content() == before


def test_predictions_of_a_file_that_lies_beside_the_annotations(
    run: Run, dataset: Path, run_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    annotations = (dataset / "annotations" / "instances_val.json").read_bytes()
    (folder / "val.json").write_bytes(annotations)
    shutil.copy(run_folder / "weights" / "best.pt", folder)
    words = ("eval", folder / "best.pt", folder / "val.json", "--images", dataset / "val", "--workers", 0)
    code, _, err = run(*words)
    assert code == 0, err
    written = folder / "best_val_predictions.json"
    assert (folder / "val.json").read_bytes() == annotations and written.is_file()
    assert run(*words).code == 0, "predictions take the place of earlier ones"
    shutil.copy(folder / "val.json", written)
    refused = run(*words)
    assert (refused.code, refused.out) == (2, "") and "--out" in refused.err
    assert written.read_bytes() == annotations


def test_a_run_keeps_its_own_predictions_when_it_is_scored_on_other_data(
    run: Run, dataset: Path, run_folder: Path
) -> None:
    assert run("eval", run_folder, "--workers", 0).code == 0
    own = (run_folder / "predictions" / "val.json").read_bytes()
    other = dataset / "annotations" / "instances_train.json"
    code, out, err = run("eval", run_folder, dataset, "--split", "train", "--workers", 0, "--json")
    assert code == 0, err
    written = run_folder / "predictions" / "train.json"  # its own training data
    assert json.loads(out)["predictions"] == str(written)
    assert "--split train --sheet" in err.replace("\n", " ")
    shutil.copy(other, dataset / "annotations" / "more.json")
    words = (dataset / "annotations" / "more.json", "--images", dataset / "train", "--workers", 0, "--json")
    _, _, err = run("eval", run_folder, *words, "--device", "cpu", "--out", "mine.json")
    assert err.endswith("/train' --device cpu --out mine.json --sheet sheet.png\n")
    code, out, err = run("eval", run_folder, *words)
    assert code == 0, err
    assert json.loads(out)["predictions"] == str(run_folder / "predictions" / "annotations_more.json")
    assert (run_folder / "predictions" / "val.json").read_bytes() == own


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("runs/nope",), "runs/nope: no such file or folder"),
        (("run.yaml",), "run.yaml: is no model"),
        (("forgotten",), "recipe.yaml: is missing, so the data of the run is not known"),
    ],
)
def test_a_first_word_that_is_no_model(
    run: Run, run_folder: Path, words: tuple[str, ...], message: str
) -> None:
    shutil.copy(run_folder / "recipe.yaml", "run.yaml")
    shutil.copytree(run_folder, "forgotten")
    Path("forgotten/recipe.yaml").unlink()
    code, _, err = run("eval", *words)
    assert code == 2 and message in err and len(err.splitlines()) == 2


def test_a_dataset_may_have_a_folder_called_weights(run: Run, run_folder: Path, dataset: Path) -> None:
    (dataset / "weights").mkdir()
    code, _, err = run("eval", run_folder / "weights" / "best.pt", dataset, "--workers", 0)
    assert code == 0, err


def test_a_run_against_its_own_last_predictions(run: Run, run_folder: Path) -> None:
    words = ("eval", run_folder, "--workers", 0)
    assert run(*words).code == 0
    assert run(*words, "--compare", run_folder / "predictions" / "val.json").code == 0


def test_no_threshold_is_said_where_nothing_is_right(
    run: Run, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Finder,
        "detect",
        lambda self, images, sizes: [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))] * len(sizes),
    )
    code, out, err = run("eval", run_folder, "--workers", 0)
    assert code == 0 and "None" not in out + err and "no best threshold to store" in err
    assert stored(run_folder) is None


def test_a_cut_image_stops_an_evaluation_with_a_hint_that_helps(
    run: Run, run_folder: Path, dataset: Path
) -> None:
    image = dataset / "val" / "val_40.png"
    image.write_bytes(image.read_bytes()[:60])
    code, out, err = run("eval", run_folder, "--workers", 0)
    assert (code, out) == (4, "") and "val_40.png" in err and "in training, data.on_bad_image" in err


def test_very_many_results_for_one_image(run: Run, dataset: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 40, (100_000, 2)).tolist()
    many = [
        {"image_id": 40, "category_id": 3 + 4 * (i % 2), "bbox": [x, y, 12, 14], "score": round(float(s), 4)}
        for i, ((x, y), s) in enumerate(zip(corners, rng.uniform(0, 0.5, 100_000), strict=True))
    ]
    file = tmp_path / "many.json"
    file.write_text(json.dumps(many + results()))
    content = json.loads(
        run("eval", "--predictions", file, dataset, "--json", "--report", tmp_path / "out").out
    )
    assert content["detections"] == 100_010 and content["metrics"]["AP50"] > 0.9
    assert any("do not count" in note for note in content["notes"])
    assert (tmp_path / "out" / "report.html").stat().st_size < 3_000_000


def test_a_run_on_its_own_data_keeps_the_threshold(run: Run, run_folder: Path) -> None:
    code, out, err = run("eval", run_folder, "--workers", 0, "--json")
    assert code == 0, err
    assert json.loads(out)["threshold_stored_in"] == str(run_folder / "weights" / "best.pt")
    point = stored(run_folder)
    assert point is not None
    assert point["threshold"] == pytest.approx(0.3) and point["classes"] == pytest.approx([0.4, 0.3])
    assert str(point["annotations"]).endswith("instances_val.json")
    assert list((run_folder / "weights").iterdir()) == [run_folder / "weights" / "best.pt"]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--no-store-threshold"], False),
        (["DATA"], False),
        (["DATA", "--store-threshold"], True),
        (["--split", "train"], False),
        (["--max-dets", "1"], False),
    ],
)  # fmt: skip
def test_when_the_threshold_is_kept(
    run: Run, run_folder: Path, dataset: Path, words: list[str], kept: bool
) -> None:
    given = [dataset if word == "DATA" else word for word in words]
    assert run("eval", run_folder, *given, "--workers", 0).code == 0
    assert (stored(run_folder) is not None) == kept


def test_thresholds_of_classes_are_kept_under_the_classes_of_the_checkpoint(
    run: Run, run_folder: Path, dataset: Path
) -> None:
    """The data may have only some of them."""
    file = dataset / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["categories"] = [c for c in content["categories"] if c["name"] == "dog"]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 7]
    file.write_text(json.dumps(content))
    assert run("eval", run_folder, "--workers", 0).code == 0
    point = stored(run_folder)
    assert point is not None and point["classes"] == [None, pytest.approx(0.3)]


def test_a_checkpoint_that_cannot_be_rewritten_stays(
    run: Run, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dfine_cli.training.checkpoint.torch.save", full)
    outcome = run("eval", run_folder, "--workers", 0)
    assert outcome.code == 1 and "No space left" in outcome.err
    assert stored(run_folder) is None


def test_a_run_against_another(run: Run, run_folder: Path, good: Path) -> None:
    other = run_folder.with_name("other")
    shutil.copytree(run_folder, other)
    content = json.loads(run("eval", run_folder, "--compare", other, "--workers", 0, "--json").out)
    assert content["comparison"]["ap"]["change"] == 0 and content["comparison"]["with"] == "other"
    content = json.loads(run("eval", run_folder, "--compare", good, "--workers", 0, "--json").out)
    assert content["comparison"]["with"] == "good.json"
    assert (
        content["comparison"]["ap"]["after"]
        == content["metrics"]["AP"]
        != content["comparison"]["ap"]["before"]
    )


def test_neither_model_nor_predictions(run: Run) -> None:
    outcome = run("eval")
    assert outcome.code == 2 and "give a checkpoint" in outcome.err
