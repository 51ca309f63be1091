"""Exported files in every runtime that is here: what they find, and what they refuse."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dfine_cli.artefact import sidecar_of
from dfine_cli.backends.detector import OpenOptions, open_detector
from dfine_cli.backends.exported import ExportedDetector
from dfine_cli.data.classes import COCO80, ClassMap
from dfine_cli.errors import CheckError, DfineError, MissingError, UsageError
from tests.unit.backends.conftest import BOXES, CLASSES, SIZE, Write

CPU = OpenOptions("cpu", threads=1)


@pytest.fixture(params=[".onnx", ".xml"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(suffix: str, write: Write, to_openvino: Callable[[Path], Path]) -> Write:
    """Writes a detector in the format of ``suffix``."""

    def to_file(*args: object, **options: object) -> Path:
        path = write(*args, **options)
        if suffix == ".onnx":
            return path
        converted = to_openvino(path)
        if sidecar_of(path).is_file():
            sidecar_of(path).rename(sidecar_of(converted))
        return converted

    return to_file


def opened(path: Path, options: OpenOptions = CPU) -> ExportedDetector:
    detector = open_detector(path, options=options)
    assert isinstance(detector, ExportedDetector)
    return detector


def pictures(count: int) -> np.ndarray:
    """Images of which every one is brighter than the one before."""
    return np.stack([np.full((3, *SIZE), 20 * (i + 1), np.uint8) for i in range(count)])


@pytest.mark.parametrize("contract", ["published", "end2end"])
@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("count", [1, 4, 5])
def test_every_image_gets_its_own_detections(file: Write, contract: str, batch: int | None, count: int):
    detector = opened(file(contract=contract, batch=batch))
    sizes = [(100 + i, 200 + i) for i in range(count)]
    found = detector.detect(pictures(count), sizes)
    assert len(found) == count
    for i, (boxes, scores, labels, _) in enumerate(found):
        height, width = sizes[i]
        assert boxes == pytest.approx(BOXES * (width, height, width, height), rel=1e-5)
        assert scores == pytest.approx(np.array([1, 0.5]) * 20 * (i + 1) / 255, rel=1e-5)
        assert labels.tolist() == [0, 1]
        assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)


@pytest.mark.parametrize("where", ["inside", "beside"])
def test_an_artefact_says_what_it_is(file: Write, where: str):
    detector = opened(file(where))
    assert (detector.name, detector.classes, detector.input_size) == ("dfine-n", CLASSES, SIZE)
    assert (detector.exif, detector.operating_point) == ("ignore", {"threshold": 0.31})
    assert (detector.session.device, detector.session.precision) == ("cpu", "fp32")


def test_a_file_of_another_tool_has_the_classes_of_coco(file: Write):
    detector = opened(file("nowhere", name="theirs"))
    assert (detector.name, detector.input_size, detector.exif) == ("theirs", SIZE, "apply")
    assert list(zip(detector.classes.category_ids, detector.classes.names, strict=True)) == list(COCO80)
    assert detector.operating_point is None
    assert len(detector.detect(pictures(9), [SIZE] * 9)) == 9


def test_a_file_of_another_tool_has_the_classes_it_is_given(file: Write):
    theirs = ClassMap(("a", "b"), (1, 2), "auto")
    assert opened(file("nowhere"), OpenOptions("cpu", classes=theirs)).classes == theirs


@pytest.mark.parametrize(
    ("where", "classes", "known", "hint"),
    [
        ("nowhere", None, 80, "--classes FILE"),
        ("nowhere", ClassMap(("a", "b"), (1, 2), "auto"), 2, "--classes has too few"),
        ("beside", None, 2, "description is that of another file"),
    ],
)
def test_classes_that_do_not_fit_are_found_out(
    file: Write, where: str, classes: ClassMap | None, known: int, hint: str
):
    path = file(where, labels=np.array([0, 364]))
    with pytest.raises(CheckError, match=f"finds class 364, and {known} classes are known") as caught:
        opened(path, OpenOptions("cpu", classes=classes)).detect(pictures(1), [SIZE])
    assert caught.value.message.startswith(f"{path}: ") and hint in caught.value.hint


def test_a_free_input_size_must_be_given(file: Write):
    path = file("nowhere", size=(None, None))
    with pytest.raises(UsageError, match="takes images of any size") as caught:
        opened(path)
    assert "--input-size" in caught.value.hint
    detector = opened(path, OpenOptions("cpu", input_size=SIZE))
    assert detector.detect(pictures(1), [SIZE])[0].scores[0] == pytest.approx(20 / 255, rel=1e-5)


@pytest.mark.parametrize("where", ["inside", "nowhere"])
def test_another_size_than_a_fixed_one(file: Write, where: str):
    path = file(where)
    with pytest.raises(UsageError, match="takes images of 32x64, not 640x640") as caught:
        opened(path, OpenOptions("cpu", input_size=(640, 640)))
    assert "--input-size 640,640" in caught.value.hint


def test_more_images_than_a_pass_takes(file: Write):
    detector = opened(file())
    with pytest.raises(UsageError, match="takes 1 to 4 images in one pass, not 5"):
        detector.prepare(pictures(5), [SIZE] * 5)
    fixed = opened(file(batch=1, name="one"))
    with pytest.raises(UsageError, match="takes 1 image in one pass, not 2"):
        fixed.prepare(pictures(2), [SIZE] * 2)


def test_a_file_with_classes_takes_no_others(file: Write):
    with pytest.raises(UsageError, match="says itself which classes it has"):
        opened(file(), OpenOptions("cpu", classes=CLASSES))


def test_the_description_of_another_file(file: Write):
    path = file("beside", contract="end2end")
    other = file("nowhere", name="other")
    shutil.copy(sidecar_of(path), sidecar_of(other))
    with pytest.raises(DfineError, match="its description is that of another file"):
        opened(other)


def test_a_damaged_description(file: Write):
    path = file("beside")
    sidecar_of(path).write_text("{")
    with pytest.raises(DfineError, match="its description is damaged"):
        opened(path)


def test_another_network(tmp_path: Path, suffix: str, to_openvino: Callable[[Path], Path]):
    names = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "y")
    }
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [names["x"]], [names["y"]])
    path = tmp_path / "resnet.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(DfineError, match=r"resnet\.\w+: another network: inputs x; outputs y") as caught:
        opened(to_openvino(path) if suffix == ".xml" else path)
    assert "images" in caught.value.hint


@pytest.mark.parametrize("share", [0, 0.5, 0.97])
def test_a_truncated_file(file: Write, share: float):
    path = file("nowhere")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DfineError, match=path.name) as caught:
        opened(path)
    assert len(caught.value.message.splitlines()) == 1 and caught.value.hint


def test_truncated_and_missing_weights_of_openvino(write: Write, to_openvino: Callable[[Path], Path]):
    path = to_openvino(write())
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:5])
    with pytest.raises(DfineError, match="OpenVINO cannot load it"):
        opened(path)
    weights.unlink()
    with pytest.raises(DfineError, match=r"its weights model\.bin are not beside it"):
        opened(path)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "npu"])
def test_a_device_that_is_not_there(file: Write, device: str):
    with pytest.raises(MissingError, match=f"device '{device}' is not there") as caught:
        opened(file(), OpenOptions(device))
    assert "--device cpu" in caught.value.hint


def test_a_runtime_that_is_not_installed(file: Write, suffix: str, monkeypatch: pytest.MonkeyPatch):
    path = file()
    module = {".onnx": "onnxruntime", ".xml": "openvino"}[suffix]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match=f"{module} is not installed") as caught:
        opened(path)
    assert caught.value.hint.startswith("pip install ") and module in caught.value.hint
