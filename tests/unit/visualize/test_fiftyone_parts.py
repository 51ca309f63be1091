"""What ``--to fiftyone`` works out before FiftyOne is asked: labels, names, addresses, and what is missing."""

import json
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

from dfine_cli.data.classes import ClassMap
from dfine_cli.data.layout import SplitFiles
from dfine_cli.errors import MissingError, UsageError
from dfine_cli.types import Detections
from dfine_cli.visualize.fiftyone_app import require_free
from dfine_cli.visualize.fiftyone_bridge import _chunks, _put_images, dataset_name, field_name
from dfine_cli.visualize.fiftyone_database import connect, load_fiftyone
from dfine_cli.visualize.fiftyone_labels import Findings
from dfine_cli.visualize.source import show_detector, show_pictures
from tests.unit.evaluation.scenes import BOX, CAT, DOG, FAR, truth

FIFTYONE = SimpleNamespace(Detection=dict, Detections=lambda detections: detections)
"""Labels of FiftyOne as plain values."""


class Open:
    """Finds a cat at ``BOX``, a dog at ``FAR`` and a fish, with edges that are more and less certain."""

    name, input_size, exif, operating_point = "open", (32, 32), "apply", None
    classes = ClassMap(("cat", "dog", "fish"), (CAT, DOG, 77), "auto")

    def detect(self, images, sizes):
        boxes = np.array([BOX, FAR, BOX], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        spread = np.array([[1, 2, 3, 4], [4, 4, 4, 4], [9, 9, 9, 9]], np.float32)
        scores, labels = np.array([0.6, 0.5, 0.9], np.float32), np.array([0, 1, 2])
        best = np.argsort(-scores)
        return [Detections(boxes[best], scores[best], labels[best], spread[best])] * len(sizes)


@pytest.fixture
def files(tmp_path):
    content = truth([(1, CAT, BOX, 0), (2, DOG, FAR, 0), (2, CAT, BOX, 1)], images=(1, 2))
    (tmp_path / "val.json").write_text(json.dumps(content))
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), np.full((200, 200, 3), 90, np.uint8))
    return SplitFiles(tmp_path / "val.json", tmp_path)


def test_labels_carry_outcomes_and_what_is_uncertain(files):
    shown = show_detector(Open(), files, batch=2, workers=0)
    findings = Findings(FIFTYONE, shown, 0.4, np.full((2, 2), 200))
    first, second = findings.predictions([0, 1])
    assert [(d["label"], d["outcome"], d["error"]) for d in first] == [
        ("cat", "tp", None),
        ("dog", "fp", "background"),
    ]
    assert [(d["label"], d["outcome"]) for d in second] == [("cat", "crowd"), ("dog", "tp")]
    cat, dog = first
    assert cat["bounding_box"] == pytest.approx([v / 200 for v in BOX]) and cat["annotation"] == 101
    assert [cat[f"spread_{e}"] for e in ("left", "top", "right", "bottom")] == [1, 2, 3, 4]
    assert cat["uncertainty"] == pytest.approx((1 + 2 + 3 + 4) / 4 / 50)  # BOX is 50 wide and high
    assert dog["uncertainty"] == pytest.approx(4 / 40) and dog["iou"] == 0
    assert findings.mean_uncertainty() == pytest.approx([(0.05 + 0.1) / 2] * 2)
    assert findings.outcomes([0, 1]) == [["tp"], ["tp", "crowd"]]
    assert [o["label"] for o in findings.truth([1])[0]] == ["dog", "cat"]
    assert Findings(FIFTYONE, shown, 0.55, np.full((2, 2), 200)).outcomes([1]) == [["fn", "crowd"]]


def test_likely_label_errors_are_labels_too(files):
    findings = Findings(FIFTYONE, show_detector(Open(), files, batch=2, workers=0), 0.4, np.full((2, 2), 200))
    [[suspect], none] = findings.label_errors([0, 1])
    assert (suspect["label"], suspect["found"], suspect["annotated"]) == ("no label", "dog", "")
    assert suspect["confidence"] == pytest.approx(0.5) and none == []


class Samples:
    """A dataset of FiftyOne as far as images are put into it."""

    def __init__(self):
        self.rows, self.made = {}, 0

    def values(self, fields):
        return [[row[field] for row in self.rows.values()] for field in fields]

    def set_values(self, field, by_id, key_field):
        for key, value in by_id.items():
            self.rows[key][field] = value

    def delete_samples(self, ids):
        self.rows = {key: row for key, row in self.rows.items() if key not in ids}

    def add_samples(self, samples, progress):
        for path, image_id in samples:
            self.made += 1
            self.rows[f"s{self.made}"] = {"id": f"s{self.made}", "filepath": path, "image_id": image_id}


def test_images_that_come_later_or_lie_elsewhere(files, tmp_path):
    made = SimpleNamespace(
        Sample=lambda path, image_id, metadata: (path, image_id), ImageMetadata=lambda **_: None
    )
    shown, dataset, sizes = show_detector(Open(), files, batch=2, workers=0), Samples(), np.full((2, 2), 200)
    here = {image: tmp_path / f"{image + 1}.png" for image in (0, 1)}
    elsewhere = {image: tmp_path / "elsewhere" / path.name for image, path in here.items()}
    assert _put_images(made, dataset, shown, {1: here[1]}, sizes) == ({1: "s1"}, {1})
    assert _put_images(made, dataset, shown, here, sizes) == ({0: "s2", 1: "s1"}, {0})
    assert _put_images(made, dataset, shown, elsewhere, sizes) == ({0: "s2", 1: "s1"}, set())
    assert {row["filepath"] for row in dataset.rows.values()} == set(map(str, elsewhere.values()))
    # Without annotations an id is no more than a place in a list.
    places, new = _put_images(made, dataset, shown._replace(judged=False), here, sizes)
    assert new == {0, 1} and set(places.values()) == set(dataset.rows) == {"s3", "s4"}
    assert list(_chunks(1, 402)) == [(0, 1), (1, 201), (201, 401), (401, 402)]


def test_images_without_ground_truth_have_no_outcomes(files):
    shown = show_pictures(Open(), files.images, batch=2, workers=0)
    [found, _] = Findings(FIFTYONE, shown, 0.4, np.full((2, 2), 200)).predictions([0, 1])
    assert [d["label"] for d in found] == ["fish", "cat", "dog"] and "outcome" not in found[0]
    assert [d["spread_left"] for d in found] == [9, 1, 4]


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ("coco/annotations/instances_val2017.json", "coco-val2017"),
        ("cells/train/_annotations.coco.json", "cells-train"),
        ("cells/boxes.json", "cells-boxes"),
        ("holiday", "holiday"),
    ],
)
def test_a_dataset_is_called_after_its_data(origin, name):
    assert dataset_name(Path("data") / origin) == name


def test_a_model_keeps_its_field_and_takes_no_other(tmp_path):
    run = tmp_path / "My run-2" / "weights"
    run.mkdir(parents=True)
    (run.parent / "recipe.yaml").touch()
    assert (
        field_name(run / "best.pt", {}) == "my_run_2" and field_name(run / "last.pt", {}) == "my_run_2_last"
    )
    known = {"femto": {"source": str(tmp_path / "a" / "femto.json")}}
    assert field_name(tmp_path / "a" / "femto.json", known) == "femto"
    assert field_name(tmp_path / "b" / "femto.json", known) == "femto_2"
    assert field_name(Path("ground_truth.json"), {}) == "model_ground_truth"
    assert field_name(Path("2024.json"), {}) == "model_2024" and field_name(Path("ß.json"), {}) == "model"


def test_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} cannot be used") as caught:
            require_free("127.0.0.1", port)
    assert f"--port, such as {port + 1}" in caught.value.hint
    require_free("127.0.0.1", port)


def test_without_fiftyone_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(MissingError) as caught:
        load_fiftyone()
    assert caught.value.hint == 'pip install "dfine-cli[fiftyone]"' and caught.value.exit_code == 3


@pytest.mark.parametrize("folder", ["config/var/lib/mongo", "theirs"])
def test_a_server_that_does_not_run_here(tmp_path, monkeypatch, folder):
    """Neither for us nor for FiftyOne itself, which starts the same one in a folder that the user has named."""
    program = tmp_path / "mongod"
    program.write_text("#!/bin/sh\necho 'libcrypto.so.1.1: cannot open shared object file' >&2\nexit 127\n")
    program.chmod(0o755)
    fiftyone, core, service = (ModuleType(name) for name in ("fiftyone", "core", "service"))
    for name, module in {"": fiftyone, ".core": core, ".core.service": service}.items():
        monkeypatch.setitem(sys.modules, f"fiftyone{name}", module)
    fiftyone.config = SimpleNamespace(database_uri=None, database_dir=str(tmp_path / folder))
    fiftyone.constants = SimpleNamespace(FIFTYONE_CONFIG_DIR=str(tmp_path / "config"))
    fiftyone.core, core.service = core, service
    service.DatabaseService = SimpleNamespace(find_mongod=lambda: str(program))
    service.ServiceException = service.ServiceExecutableNotFound = type("ServiceException", (Exception,), {})
    for name in ("FIFTYONE_DO_NOT_TRACK", "FIFTYONE_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "true")
    with pytest.raises(MissingError, match=r"does not run here: libcrypto\.so\.1\.1") as caught:
        connect(tmp_path / "ours")
    assert "FIFTYONE_DATABASE_URI" in caught.value.hint
