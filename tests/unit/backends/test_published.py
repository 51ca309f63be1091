"""Detectors opened from published weights and other layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dfine_cli.backends.detector import OpenOptions, open_detector
from dfine_cli.backends.torch_backend import TorchDetector
from dfine_cli.data.classes import COCO80, ClassMap
from dfine_cli.errors import CheckError, UsageError
from dfine_cli.model.dfine import DFINE, build_model
from dfine_cli.zoo.convert import convert
from dfine_cli.zoo.read import PublishedWeights, read_weights
from tests.parity.weights import fill_model

SIZE = (96, 96)


@pytest.fixture(scope="module")
def model() -> DFINE:
    model = build_model("n", 80, input_size=SIZE, num_queries=40, activation="silu")
    return fill_model(model, torch.float32).eval()


@pytest.fixture
def weights(model: DFINE, tmp_path: Path) -> PublishedWeights:
    return PublishedWeights(
        path=tmp_path / "memory",
        layout="published",
        size="n",
        num_classes=80,
        class_names=None,
        label_set="coco",
        input_size=SIZE,
        state=model.state_dict(),
        activation="silu",
        knobs={"num_queries": 40},
    )


def detect(detector: TorchDetector) -> list[np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (1, 3, *SIZE), np.uint8)
    return list(detector.detect(images, [(480, 640)])[0])


def test_a_described_file_detects_as_its_model(
    weights: PublishedWeights, model: DFINE, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    convert(weights, path)
    detector = open_detector(path, "cpu")
    assert isinstance(detector, TorchDetector)
    assert (detector.name, detector.input_size) == ("dfine-n", SIZE)
    assert list(zip(detector.classes.category_ids, detector.classes.names, strict=True)) == list(COCO80)
    expected = TorchDetector(model, detector.classes, SIZE, torch.device("cpu"))
    for ours, theirs in zip(detect(detector), detect(expected), strict=True):
        assert np.array_equal(ours, theirs)


def test_published_files_and_folders_are_opened(tmp_path: Path) -> None:
    state = fill_model(build_model("n", 3, input_size=(320, 320)), torch.float32).state_dict()
    path, folder = tmp_path / "mine.pth", tmp_path / "folder"
    # a stray entry, such as the projector that distillation leaves behind, does no harm
    torch.save({"model": {**state, "encoder.projector.weight": torch.zeros(2, 2)}}, path)
    warnings: list[str] = []
    first = open_detector(path, options=OpenOptions("cpu", warn=warnings.append))
    assert "encoder.projector.weight" in warnings[-1] and "relu is assumed" in warnings[0]
    assert first.classes == ClassMap(("class 0", "class 1", "class 2"), (0, 1, 2), "none")
    assert first.input_size == (320, 320)
    convert(read_weights(path), folder)
    second = open_detector(folder, "cpu")
    assert second.input_size == (320, 320)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    third = open_detector(folder, options=OpenOptions("cpu", warn=warnings.append))
    assert len(warnings) == 2
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 320, 320), np.uint8)
    found = [detector.detect(images, [(10, 10)])[0] for detector in (first, second, third)]
    for ours, *theirs in zip(*found, strict=True):
        assert all(np.array_equal(ours, other) for other in theirs)


def test_what_cannot_detect_is_refused(tmp_path: Path) -> None:
    state = build_model("n", 3).state_dict()
    backbone = tmp_path / "backbone.pth"
    torch.save(
        {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}, backbone
    )
    with pytest.raises(UsageError, match="a backbone alone"):
        open_detector(backbone, "cpu")
    half = tmp_path / "half.pth"
    torch.save({"model": {k: v for k, v in state.items() if not k.startswith("encoder.")}}, half)
    with pytest.raises(CheckError, match=r"encoder: \d+ missing"):
        open_detector(half, "cpu")


def test_the_activation_reaches_every_layer_of_the_decoder(model: DFINE) -> None:
    """What DEIM changes in the network: SiLU between all linear layers of the decoder."""
    relu = build_model("n", 80, input_size=SIZE, num_queries=40)
    relu.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(relu.eval()(images).final.boxes, model(images).final.boxes, atol=1e-3)
    head = model.decoder.enc_bbox_head
    first, second, last = head.layers
    x = torch.randn(5, 128)
    with torch.no_grad():
        expected = last(torch.nn.functional.silu(second(torch.nn.functional.silu(first(x)))))
        assert torch.equal(head(x), expected)
    chosen = {type(m).__name__: m.activate for m in model.decoder.modules() if hasattr(m, "activate")}
    assert set(chosen) == {"MLP", "DecoderLayer"}
    assert set(chosen.values()) == {torch.nn.functional.silu}
