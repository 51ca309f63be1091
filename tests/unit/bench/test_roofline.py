"""The estimate for a T4: counting, fitting, and how far it is to be trusted."""

from __future__ import annotations

import pytest
import torch

from dfine_cli.bench.layers import PARTS, count_layers
from dfine_cli.bench.published import LATENCY_MS
from dfine_cli.bench.roofline import GpuPeak, Layer, Work, calibrate, work_of
from dfine_cli.bench.t4 import calibrate_t4, estimate_t4
from dfine_cli.model.dfine import build_model

GPU = GpuPeak("toy", {"tensor": 1000.0, "vector": 100.0}, 10.0)


@pytest.fixture(scope="module")
def calibration():
    return calibrate_t4()


@pytest.fixture(scope="module")
def small():
    return build_model("n", 80, input_size=(640, 640)).eval()


def test_a_layer_takes_as_long_as_its_slower_limit():
    layers = [
        Layer("backbone", "convolution", 2000, 5, "tensor"),  # 2 s of arithmetic, 1 s of memory
        Layer("backbone", "convolution", 2000, 5, "vector"),  # 20 s of arithmetic
        Layer("decoder", "cat", 0, 15, "vector"),  # 3 s of memory
    ]
    work = work_of(layers, GPU)
    assert work.ideal_ms == {"backbone": 22_000, "decoder": 3000}
    assert work.launches == {"backbone": 2, "decoder": 1}
    assert work.total == (25_000, 3)


def test_a_fit_finds_what_made_the_latencies():
    works = {str(i): Work({"all": float(i)}, {"all": 10 + i * i}, 0.0) for i in range(1, 5)}
    latencies = {name: 3 * work.total[0] + 0.5 * work.total[1] for name, work in works.items()}
    found = calibrate(works, latencies)
    assert (found.factor, found.launch_ms) == pytest.approx((3, 0.5))
    assert found.worst_error == pytest.approx(0, abs=1e-9)


def test_leaving_one_out_shows_an_outlier():
    works = {str(i): Work({"all": float(i)}, {"all": 10}, 0.0) for i in range(1, 6)}
    latencies = {name: 3 * work.total[0] + 5 for name, work in works.items()}
    latencies["5"] *= 2
    found = calibrate(works, latencies)
    assert found.left_out["5"] == pytest.approx(
        -0.5
    )  # the other four agree, and are right about what it should be
    assert (
        abs(found.residuals["5"]) < 0.5 and found.worst_error == pytest.approx(0.5) and found.mean_error < 0.5
    )


def test_layers_are_counted_without_touching_the_model(small):
    before = {name: value.clone() for name, value in small.state_dict().items()}
    layers = count_layers(small, (640, 640))
    assert sum(layer.flops for layer in layers) / 1e9 == pytest.approx(
        7.314, abs=5e-4
    )  # of the published form
    by_part = {part: sum(layer.flops for layer in layers if layer.part == part) / 1e9 for part in PARTS}
    assert by_part == pytest.approx({"backbone": 5.178, "encoder": 1.155, "decoder": 0.980}, abs=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    assert layers == count_layers(small, (640, 640))  # constants that the first pass makes do not count
    assert not any(layer.operation in ("view", "relu", "arange") for layer in layers)


def test_the_published_latencies_are_predicted_from_each_other(calibration):
    assert list(calibration.left_out) == list(LATENCY_MS)
    assert calibration.mean_error < 0.05 and calibration.worst_error < 0.10
    assert calibration.factor > 1  # nothing runs at the peak
    assert 0.001 < calibration.launch_ms < 0.01


def test_estimates_follow_the_input(calibration, small):
    full = estimate_t4(small, "dfine-n", (640, 640), calibration)
    assert full.latency_ms == pytest.approx(LATENCY_MS["n"] * (1 + calibration.residuals["n"]))
    assert sum(full.parts_ms.values()) == pytest.approx(full.latency_ms)
    wide = estimate_t4(small, "dfine-n", (384, 640), calibration)
    assert wide.latency_ms < full.latency_ms and wide.gflops < 0.65 * full.gflops
    assert wide.input_size == (384, 640)
