"""The PyTorch detector, and reading checkpoints that are right, broken or foreign."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dfine_cli import checkpoint_format as keys
from dfine_cli.backends.torch_backend import TorchDetector, choose_device, open_checkpoint, read_checkpoint
from dfine_cli.boxes import cxcywh_to_xyxy
from dfine_cli.config.schema import Recipe
from dfine_cli.data.classes import ClassMap
from dfine_cli.errors import CheckError, DfineError, MissingError
from dfine_cli.model.dfine import build_model
from dfine_cli.tensor_file import require_finite
from dfine_cli.types import LayerOutput

CLASSES = ClassMap(("disc", "star"), (3, 20), "auto")
CPU = torch.device("cpu")
RECIPE = Recipe.model_validate_json(
    '{"data": {"input_size": [64, 96], "exif": "ignore"}, "model": {"num_queries": 20, "num_denoising": 0, "bins": 16}}',
    strict=True,
)


class Fixed(nn.Module):
    """A network that sees the same two boxes in every image."""

    def forward(self, images):
        logits = torch.full((1, 3, 2), -9.0)
        logits[0, 0, 1], logits[0, 2, 0] = 1.0, 3.0
        boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0, 0, 0, 0], [0.25, 0.5, 0.5, 1.0]]])
        batch = len(images)
        return SimpleNamespace(final=LayerOutput(logits.repeat(batch, 1, 1), boxes.repeat(batch, 1, 1)))


@pytest.fixture(scope="module")
def content():
    model = build_model("n", 2, input_size=(64, 96), num_queries=20, num_denoising=0, bins=16)
    weights = model.state_dict()
    return {
        keys.FORMAT_KEY: keys.FORMAT,
        keys.MODEL: {k: torch.zeros_like(v) for k, v in weights.items()},
        keys.EMA: weights,
        keys.BEST_WEIGHTS: keys.EMA,
        keys.SIZE: "n",
        keys.CLASSES: CLASSES.to_dict(),
        keys.RECIPE: RECIPE.model_dump(mode="json"),
    }


@pytest.fixture
def save(tmp_path):
    def write(content):
        file = tmp_path / "best.pt"
        torch.save(content, file)
        return file

    return write


def test_detections_are_in_pixels_of_each_original_best_first():
    detector = TorchDetector(Fixed().train(), CLASSES, (32, 32), CPU)
    assert not detector.model.training
    images = np.zeros((2, 3, 32, 32), np.uint8)
    wide, tall = detector.detect(images, [(100, 200), (50, 10)])
    assert wide.labels[:2].tolist() == [0, 1]
    assert wide.boxes[:2].tolist() == pytest.approx(np.array([[0, 0, 100, 100], [80, 30, 120, 70]]))
    assert tall.boxes[0].tolist() == pytest.approx([0, 0, 5, 50])
    assert wide.scores[:2].tolist() == pytest.approx([1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-1))], abs=1e-6)
    assert (np.diff(wide.scores) <= 0).all()
    assert (wide.boxes.dtype, wide.scores.dtype, wide.labels.dtype) == (np.float32, np.float32, np.int64)


def test_the_spread_of_the_edges_goes_with_its_box(content):
    model = build_model("n", 2, input_size=(64, 96), num_queries=20, num_denoising=0, bins=16)
    model.load_state_dict(content[keys.EMA])
    for head in model.decoder.dec_bbox_head:
        torch.nn.init.normal_(head.layers[-1].weight)  # before training all distributions are the same
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), np.uint8)
    small, large = TorchDetector(model, CLASSES, (64, 96), CPU).detect(images, [(64, 96), (640, 480)])
    final = model(torch.from_numpy(images).float() / 255).final
    for found, image, scale in ((small, 0, (96, 64, 96, 64)), (large, 1, (480, 640, 480, 640))):
        assert found.spread.shape == (20, 4) and found.spread.dtype == np.float32
        spread = model.decoder.edge_spread(final)[image].detach().numpy() * scale
        boxes = cxcywh_to_xyxy(final.boxes)[image].detach().numpy() * scale
        for box, own in zip(found.boxes, found.spread, strict=True):
            query = np.abs(boxes - box).sum(1).argmin()
            assert own == pytest.approx(spread[query], rel=1e-4) and own.min() > 0
    assert TorchDetector(Fixed(), CLASSES, (32, 32), CPU).detect(images, [(1, 1)] * 2)[0].spread is None


def test_a_checkpoint_detects_as_the_model_that_it_holds(content, save):
    detector = open_checkpoint(save(content), "cpu")
    assert (detector.name, detector.classes, detector.input_size) == ("dfine-n", CLASSES, (64, 96))
    assert detector.exif == "ignore"
    model = build_model("n", 2, input_size=(64, 96), num_queries=20, num_denoising=0, bins=16)
    model.load_state_dict(content[keys.EMA])
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), np.uint8)
    sizes = [(64, 96), (100, 50)]
    expected = TorchDetector(model, CLASSES, (64, 96), CPU).detect(images, sizes)
    for ours, theirs in zip(detector.detect(images, sizes), expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("which", [keys.MODEL, keys.EMA])
def test_the_better_weights_are_loaded(content, save, which):
    detector = open_checkpoint(save({**content, keys.BEST_WEIGHTS: which}), "cpu")
    for name, value in detector.model.state_dict().items():
        assert torch.equal(value, content[which][name]), name


def test_training_can_go_on_after_detecting(content, save):
    """What the model caches while detecting must not forbid gradients later."""
    detector = open_checkpoint(save(content), "cpu")
    images = np.zeros((1, 3, 64, 96), np.uint8)
    detector.detect(images, [(64, 96)])
    final = detector.model(torch.from_numpy(images).float()).final
    (final.logits.sum() + final.boxes.sum()).backward()
    assert any(p.grad is not None for p in detector.model.parameters())


def test_infinity_in_anchors_is_no_damage():
    """At 640x640 anchors at the border are not usable, and marked by infinity."""
    state = build_model("s", 1, input_size=(640, 640)).state_dict()
    assert not state["decoder.anchors"].isfinite().all()
    require_finite(state, "s.pt")
    state["encoder.input_proj.0.conv.weight"][0, 0, 0, 0] = torch.nan
    with pytest.raises(DfineError, match=r"s\.pt: the weights are damaged: .* encoder\.input_proj"):
        require_finite(state, "s.pt")


class Payload:
    """Runs code when it is unpickled in the usual way."""

    def __reduce__(self):
        return os.system, ("exit 1",)


def test_code_in_a_file_is_refused(save):
    with pytest.raises(DfineError, match="more than tensors and plain values"):
        read_checkpoint(save({keys.FORMAT_KEY: keys.FORMAT, "model": Payload()}))


@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_cut_off_file_is_named_so(content, save, share):
    file = save(content)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(DfineError, match=r"best\.pt: the file is cut off"):
        read_checkpoint(file)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_checkpoint(tmp_path, data):
    file = tmp_path / "notes.pt"
    file.write_bytes(data)
    with pytest.raises(DfineError, match=r"notes\.pt: not a checkpoint"):
        read_checkpoint(file)


@pytest.mark.parametrize("foreign", [{"model": {}, "ema": {"module": {}}}, [1, 2], torch.zeros(3)])
def test_a_checkpoint_of_another_tool(save, foreign):
    with pytest.raises(DfineError, match="another tool"):
        read_checkpoint(save(foreign))


def test_another_format_version(content, save):
    with pytest.raises(DfineError, match="checkpoint format 2, this version reads format 1"):
        read_checkpoint(save({**content, keys.FORMAT_KEY: 2}))


def test_a_missing_key_is_named(content, save):
    with pytest.raises(DfineError, match="no 'classes'"):
        open_checkpoint(save({k: v for k, v in content.items() if k != keys.CLASSES}), "cpu")


def test_weights_of_another_model(content, save):
    with pytest.raises(DfineError, match="do not fit") as caught:
        open_checkpoint(save({**content, keys.SIZE: "s"}), "cpu")
    assert len(caught.value.message.splitlines()) == 1 and len(caught.value.message) < 500


def test_weights_that_are_no_numbers(content, save):
    weights = content[content[keys.BEST_WEIGHTS]]
    name = next(n for n, w in weights.items() if w.is_floating_point())
    broken = {n: torch.full_like(w, float("nan")) if n == name else w for n, w in weights.items()}
    with pytest.raises(CheckError, match=f"not all values of {name} are finite"):
        open_checkpoint(save({**content, content[keys.BEST_WEIGHTS]: broken}), "cpu")


@pytest.mark.parametrize("damage", [{keys.CLASSES: 5}, {keys.RECIPE: [1]}, {keys.BEST_WEIGHTS: []}])
def test_values_of_another_kind_are_no_bug(content, save, damage):
    with pytest.raises(DfineError, match="the checkpoint is damaged"):
        open_checkpoint(save({**content, **damage}), "cpu")


def test_missing_file(tmp_path):
    with pytest.raises(DfineError, match="no such file"):
        read_checkpoint(tmp_path / "gone.pt")


def test_devices():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in {"cpu", "cuda"}
    with pytest.raises(MissingError, match="'quantum'"):
        choose_device("quantum")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there():
    with pytest.raises(MissingError, match="'cuda' is not there"):
        choose_device("cuda")
