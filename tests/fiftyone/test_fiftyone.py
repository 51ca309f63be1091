"""``dfine visualize --to fiftyone`` with the real FiftyOne, its database, and its App in a browser."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch

from dfine_cli import checkpoint_format as keys
from dfine_cli.config.schema import Recipe
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.layout import SplitFiles
from dfine_cli.evaluation.per_image import count_per_image
from dfine_cli.model.dfine import build_model
from dfine_cli.visualize import outcomes
from dfine_cli.visualize.source import best_threshold, show_results
from tests.fiftyone.conftest import FAR, SIZE, Ended, FiftyOne
from tests.fiftyone.look import shoot_app

HERE = Path(__file__).parent
NAME = "shapes-val"


class Seen:
    """What came of showing a model, then a second one in the App, beside the FiftyOne of somebody else."""

    first: Ended
    page: str
    facts: dict[str, Any]
    busy: Ended
    picture: np.ndarray
    code: int
    errors: str
    theirs: str


@pytest.fixture(scope="module")
def seen(fiftyone: FiftyOne, data: Path) -> Iterator[Seen]:
    result = Seen()
    stranger = subprocess.Popen(
        [sys.executable, HERE / "stranger.py"],
        env=fiftyone.environment | {"FIFTYONE_DATABASE_DIR": str(fiftyone.folder / "theirs")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert stranger.stdout is not None
        assert "ready\n" in iter(stranger.stdout.readline, "")  # after what FiftyOne says about other servers
        result.first = fiftyone.dfine(data / "good.json", data, "--no-app", "--json")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with fiftyone.serving(data / "poor.json", data, "--remote", "--port", port) as (process, result.page):
            facts = fiftyone.python(
                HERE / "facts.py",
                fiftyone.folder / "home" / "fiftyone",
                NAME,
                data / "annotations" / "instances_val.json",
                *("good_tp", "good_fp", "good_fn", "poor_fn", "ground_truth.detections.good"),
                *("good.detections.outcome", "good.detections.iou", "good.detections.error"),
                *("poor.detections.outcome", "good_label_errors.detections.label"),
            )
            assert facts.code == 0, facts.err
            result.facts = json.loads(facts.out)
            result.busy = fiftyone.dfine(data / "good.json", data, "--port", port)
            shoot_app(result.page, fiftyone.folder / "profile", fiftyone.folder / "app.png")
            process.send_signal(signal.SIGINT)
            result.code = process.wait(60)
            result.errors = (fiftyone.folder / "app.err").read_text()
        result.picture = cv2.cvtColor(cv2.imread(str(fiftyone.folder / "app.png")), cv2.COLOR_BGR2RGB)
        result.theirs = stranger.communicate("")[0]
        yield result
    finally:
        stranger.kill()
        stranger.wait()


def test_a_results_file_becomes_a_dataset(seen: Seen, data: Path) -> None:
    assert seen.first.code == 0, seen.first.err
    made = json.loads(seen.first.out)
    assert (made["dataset"], made["field"], made["images"], made["unread"]) == (NAME, "good", 12, 0)
    assert made["threshold_is"] == "the best F1 on this data" and made["other_fields"] == []
    facts = seen.facts
    assert facts["persistent"] and facts["fields"]["metadata.width"] == [SIZE] * 12
    assert sorted(facts["fields"]["filepath"]) == sorted(str(p) for p in (data / "val").iterdir())


def test_outcomes_are_those_of_the_evaluation(seen: Seen, data: Path) -> None:
    shown = show_results(
        data / "good.json", SplitFiles(data / "annotations" / "instances_val.json", data / "val")
    )
    counts = count_per_image(shown.matching, best_threshold(shown)[0])
    fields = seen.facts["fields"]
    assert fields["good_tp"] == counts.correct.tolist() and sum(fields["good_tp"]) > 12
    assert fields["good_fp"] == counts.wrong.tolist() == [1] + [0] * 11
    assert fields["good_fn"] == counts.missed.tolist() == [1] * 12
    for image in range(12):
        truth, found = fields["ground_truth.detections.good"][image], fields["good.detections.outcome"][image]
        assert truth[0] == "fn" and truth[1:] == ["tp"] * (len(truth) - 1)
        assert found.count("tp") == fields["good_tp"][image]
        assert found.count("fp") == fields["good_fp"][image]
    assert fields["good.detections.error"][0][0] == "background"  # the one in the corner, with the best score
    assert all(0.5 <= iou < 1 for iou in fields["good.detections.iou"][3])


def test_views_show_what_is_wrong(seen: Seen, data: Path) -> None:
    views, fields = seen.facts["views"], seen.facts["fields"]
    ids = fields["image_id"]
    assert views["good: worst images"][0] == ids[0] and len(views["good: worst images"]) == 12
    assert views["good: false positives"] == [ids[0]]
    assert seen.facts["wrong"] == [[pytest.approx([v / SIZE for v in FAR])]]
    content = json.loads((data / "annotations" / "instances_val.json").read_text())
    firsts = {a["image_id"]: a["id"] for a in reversed(content["annotations"])}
    assert sorted(seen.facts["misses"]) == sorted([i] for i in firsts.values())
    suspicious = [
        i for i, labels in zip(ids, fields["good_label_errors.detections.label"], strict=True) if labels
    ]
    assert sorted(views["good: likely label errors"]) == sorted(suspicious) and ids[0] in suspicious
    for category in content["categories"]:
        having = {a["image_id"] for a in content["annotations"] if a["category_id"] == category["id"]}
        assert having <= set(views[f"class {category['name']}"])


def test_a_second_model_stands_beside_the_first(seen: Seen) -> None:
    views, fields = seen.facts["views"], seen.facts["fields"]
    worse = [
        i for i, a, b in zip(fields["image_id"], fields["poor_fn"], fields["good_fn"], strict=True) if a > b
    ]
    assert len(worse) == 6 and sorted(views["poor: worse than good"]) == worse
    assert views["poor: better than good"] == [fields["image_id"][0]]  # which has nothing in the corner
    assert [bool(labels) for labels in fields["poor.detections.outcome"]].count(True) >= 5


def test_the_app_shows_pictures_with_boxes(seen: Seen) -> None:
    assert (
        seen.page.startswith("http://localhost:") and f"/datasets/{NAME}?view=poor-worst-images" in seen.page
    )
    grid = seen.picture[140:500, 310:].astype(int)
    grey = np.ptp(grid, axis=-1) < 8
    assert len(np.unique(grid[grey])) > 200 and grey.mean() > 0.5  # the pictures
    for colour in (outcomes.RIGHT, outcomes.MISSED):  # nothing else has a colour
        assert (np.abs(grid - colour).sum(-1) < 60).sum() > 300, colour


def test_a_port_in_use_is_refused(seen: Seen) -> None:
    assert seen.busy.code == 2 and seen.busy.out == ""
    error, hint = seen.busy.err.splitlines()
    assert "cannot be used: Address already in use" in error and "--port" in hint


def test_ctrl_c_ends_the_app_and_the_database(seen: Seen, fiftyone: FiftyOne) -> None:
    assert seen.code == 0 and seen.errors.endswith("ended; the dataset stays\n")
    gone = [
        p
        for p in psutil.process_iter(["cmdline"])
        if str(fiftyone.folder / "home") in (p.info["cmdline"] or ())
    ]
    assert gone == []


def test_what_is_not_ours_is_left_alone(seen: Seen) -> None:
    assert seen.theirs == "theirs\n"
    assert sorted(seen.facts["datasets"]) == ["foreign", NAME]
    refused = seen.facts["refused"]
    assert "that dfine did not make" in refused["foreign"][0] and "--dataset" in refused["foreign"][1]
    assert "is of other data" in refused[NAME][0] and "instances_val.json" in refused[NAME][0]


def test_a_database_that_cannot_start(fiftyone: FiftyOne, data: Path) -> None:
    broken = fiftyone.folder / "broken" / "fiftyone"
    broken.mkdir(parents=True)
    (broken / "storage.bson").write_bytes(b"x")
    done = fiftyone.dfine(data / "good.json", data, "--no-app", DFINE_HOME=str(broken.parent))
    assert done.code == 1 and done.out == ""
    error, hint = done.err.splitlines()
    assert "does not start: Unable to read the storage engine metadata file" in error and "mongo.log" in hint


def test_images_that_come_later_or_lie_elsewhere(fiftyone: FiftyOne, data: Path) -> None:
    done = fiftyone.python(HERE / "again.py", fiftyone.folder / "later", data)
    assert done.code == 0, done.err
    first, restored, moved = json.loads(done.out.splitlines()[-1])
    assert (len(first["ids"]), len(restored["ids"]), len(moved["ids"])) == (11, 12, 12)
    assert set(first["ids"]) <= set(restored["ids"]) and restored["ids"] == moved["ids"]
    assert all(restored["truth"]) and all(restored["outcomes"]) and restored["truth"] == moved["truth"]
    assert all(Path(path).parent.name == "elsewhere" for path in moved["paths"])
    assert moved["good"] == restored["good"] and any(moved["good"])  # beside the second model


def test_a_checkpoint_on_images_without_ground_truth(fiftyone: FiftyOne, data: Path) -> None:
    file = fiftyone.folder / "tiny.pt"
    model = build_model("n", 2, input_size=(64, 64), num_queries=20, num_denoising=0)
    recipe = {
        "data": {"input_size": [64, 64], "exif": "apply"},
        "model": {"num_queries": 20, "num_denoising": 0},
    }
    torch.save(
        {
            keys.FORMAT_KEY: keys.FORMAT,
            keys.EMA: model.state_dict(),
            keys.BEST_WEIGHTS: keys.EMA,
            keys.SIZE: "n",
            keys.CLASSES: ClassMap(("disc", "star"), (1, 2), "auto").to_dict(),
            keys.RECIPE: Recipe.model_validate_json(json.dumps(recipe), strict=True).model_dump(mode="json"),
        },
        file,
    )
    done = fiftyone.dfine(
        file, data / "val", "--threshold", 0, "--workers", 0, "--device", "cpu", "--no-app", "--json"
    )
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert (made["dataset"], made["field"], made["images"]) == ("val", "tiny", 12)
    assert "tiny: most uncertain" in made["views"]
    assert any(view.startswith("class ") for view in made["views"])  # of those it happens to find
    assert not any("worst" in view for view in made["views"])
