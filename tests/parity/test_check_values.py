"""The sizes as published, against check values recorded with synthetic weights at 640x640 in float64."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from dfine_cli.model.dfine import DFINE, build_model
from dfine_cli.model.postprocess import postprocess

UINT32 = np.uint64(0xFFFFFFFF)
CONSTANTS = (".up", "anchors", "num_points_scale")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # more spin against each other where cores are shared
    yield
    torch.set_num_threads(before)


class Values(NamedTuple):
    """Mean and standard deviation of every map, sums of the outputs, first three detections of a 640x480 image."""

    backbone: list[tuple[float, float]]
    encoder: list[tuple[float, float]]
    logits: tuple[float, float]
    boxes: list[float]
    detections: list[tuple[int, float, list[float]]]


VALUES = {
    "n": Values(
        [(1.6075525, 1.7069797), (1.9654093, 2.8518091)],
        [(1.8712637, 2.5655964), (2.4549876, 3.8917419)],
        (18326.76574, 1.38557944),
        [231.407910, 160.676420, 42.198501, 32.212771],
        [
            (54, 0.99241748, [525.44259, 438.08521, 575.28374, 497.63660]),
            (54, 0.98960626, [118.52996, 191.75419, 159.37269, 213.71685]),
            (78, 0.98929337, [525.44259, 438.08521, 575.28374, 497.63660]),
        ],
    ),
    "s": Values(
        [(0.33055358, 0.49885413), (1.6075525, 1.7069797), (1.9654093, 2.8518091)],
        [(1.924883, 3.1226255), (4.138019, 6.2024051), (7.6127944, 12.1466)],
        (17230.04316, 1.40681685),
        [185.439522, 210.819348, 117.922725, 11.906758],
        [
            (74, 0.99349561, [501.89166, 292.42535, 625.04087, 296.60304]),
            (15, 0.99290509, [380.89770, 467.58231, 612.16136, 481.62104]),
            (74, 0.99262389, [303.47425, 413.19347, 628.73176, 435.07638]),
        ],
    ),
    "m": Values(
        [(0.26540613, 0.38371714), (3.2416705, 3.3013634), (5.2872845, 7.861709)],
        [(10.522911, 15.250667), (21.343785, 32.249096), (43.981099, 65.96759)],
        (-8506.55455, 1.43867218),
        [137.682141, 76.424671, 197.834048, 16.013023],
        [
            (43, 0.98957230, [159.73285, -3.02596, 508.44651, 4.76111]),
            (43, 0.98947412, [204.67177, -2.93563, 647.56671, 2.54342]),
            (75, 0.98943872, [209.36022, -13.80813, 727.96408, 10.33895]),
        ],
    ),
    "l": Values(
        [(0.29537262, 0.4404285), (5.1899202, 5.0496605), (15.36261, 22.942759)],
        [(47.070516, 73.70859), (274.45436, 395.33381), (1436.1509, 2106.5832)],
        (13197.46667, 1.43326153),
        [277.222099, 39.064383, 2.682835, 10.495591],
        [
            (19, 0.99858519, [604.48690, 11.70786, 608.00218, 23.85922]),
            (19, 0.99848203, [600.39820, 13.12849, 603.68436, 25.06613]),
            (19, 0.99840994, [600.17665, 12.36218, 603.60986, 25.01509]),
        ],
    ),
    "x": Values(
        [(0.29126459, 0.30762597), (26.165465, 28.540966), (167.23572, 194.03995)],
        [(137.62807, 226.4201), (496.42451, 735.55805), (1767.4827, 2694.0861)],
        (-16027.46382, 1.55589406),
        [231.576916, 190.339393, 155.267054, 16.056935],
        [
            (72, 0.98710835, [-11.61321, 265.73094, 293.84350, 274.19393]),
            (75, 0.98450442, [619.38813, 176.31751, 762.27566, 224.40723]),
            (72, 0.98353275, [-81.62314, 352.43991, 331.49601, 356.54643]),
        ],
    ),
}


def _hashed(count: int, seed: int) -> np.ndarray:
    """``count`` numbers in [-1, 1) from 32-bit integer hashing."""
    z = (
        np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B9) + np.uint64(seed * 0x85EBCA6B + 1)
    ) & UINT32
    for _ in range(2):
        z = ((z ^ (z >> np.uint64(16))) * np.uint64(0x045D9F3B)) & UINT32
    z ^= z >> np.uint64(16)
    return 2 * z.astype(np.float64) / 2**32 - 1


def _value(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    r = _hashed(int(np.prod(shape)), seed).reshape(shape)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "running_var":
        r = 1 + 0.3 * r**2
    elif leaf == "scale" or (leaf == "weight" and len(shape) == 1):
        r = 1 + 0.1 * r
    elif len(shape) >= 2:
        r = r * np.sqrt(6 / np.prod(shape[1:]))
    else:  # running means and biases
        r = 0.05 * r
    if key.endswith("denoising_class_embed.weight"):
        r[-1] = 0
    return torch.from_numpy(r)


def _synthetic(model: DFINE) -> DFINE:
    model.double()
    state = model.state_dict()
    for seed, key in enumerate(sorted(state)):
        if state[key].is_floating_point() and not key.endswith(CONSTANTS):
            state[key] = _value(key, tuple(state[key].shape), seed)
    model.load_state_dict(state)
    return model.eval()


def _image() -> Tensor:
    axes = [torch.arange(count, dtype=torch.float64) for count in (3, 640, 640)]
    channel, y, x = torch.meshgrid(*axes, indexing="ij")
    return (0.5 + 0.5 * torch.sin(0.05 * x + 0.07 * y + channel))[None]


def test_synthetic_numbers_are_the_documented_ones():
    np.testing.assert_allclose(_hashed(3, 5), [0.7223394434, -0.9830800793, 0.7139059966], atol=1e-10)
    assert _image()[0, 1, 2, 3].item() == pytest.approx(0.9804175321, abs=1e-10)


@pytest.mark.parametrize("name", VALUES)
@torch.no_grad()
def test_outputs_have_the_published_check_values(name):
    model, expected = _synthetic(build_model(name, 80)), VALUES[name]
    maps = model.backbone(_image())
    features = model.encoder(maps)
    output = model.decoder(features).final
    # Seven digits; L's maps reach 1e4, where the float32 position embedding costs the last of them.
    _check_maps(maps, expected.backbone)
    _check_maps(features.levels, expected.encoder)
    mean, deviation = expected.logits
    assert output.logits.mean().item() == pytest.approx(mean / output.logits.numel(), abs=3e-7)
    assert output.logits.std().item() == pytest.approx(deviation, abs=1e-7)
    assert output.boxes.sum((0, 1)).tolist() == pytest.approx(expected.boxes, abs=1e-5)
    labels, boxes_xyxy, scores = postprocess(output, torch.tensor([[640, 480]]), 3)
    for rank, (label, score, box_xyxy) in enumerate(expected.detections):
        assert labels[0, rank] == label
        assert scores[0, rank].item() == pytest.approx(score, abs=1e-7)
        assert boxes_xyxy[0, rank].tolist() == pytest.approx(box_xyxy, abs=1e-3)


def _check_maps(maps: list[Tensor] | tuple[Tensor, ...], expected: list[tuple[float, float]]) -> None:
    found = [number for level in maps for number in (level.mean().item(), level.std().item())]
    assert found == pytest.approx([number for pair in expected for number in pair], rel=3e-7)
