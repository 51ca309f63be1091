"""PyTorch behind one cut into stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfine_cli.bench import torch_runner
from dfine_cli.bench.runner import BACKENDS, RunnerOptions, Subject
from dfine_cli.errors import MissingError, UsageError

FRESH = Subject("n", None, "n")
OPTIONS = RunnerOptions("cpu", 1, None, (64, 96), 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), np.uint8)
SIZES = [(480, 640), (100, 200)]


def passed(runner, images=IMAGES, sizes=SIZES):
    return runner.finish(runner.engine(runner.prepare(images, sizes)))


def test_torch_forms_agree():
    runners = []
    for form in ("eager", "fused"):
        torch.manual_seed(0)
        runners.append(BACKENDS[form].open(FRESH, form, OPTIONS))
    eager, fused = runners
    for one, other in zip(passed(eager), passed(fused), strict=True):
        assert one.boxes.shape == (30, 4)  # a query for each of the 24 cells of stride 16 and 6 of stride 32
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    assert (eager.model, eager.size, eager.num_classes, eager.detector) == ("dfine-n", "n", 3, None)
    assert (eager.precision, eager.device, eager.event_timer, eager.peak_device_mb()) == (
        "fp32",
        "cpu",
        None,
        None,
    )


def test_half_precision_is_told_as_what_it_is():
    runner = BACKENDS["fused"].open(FRESH, "fused", RunnerOptions("cpu", 1, "bf16", (64, 96), 3))
    assert runner.precision == "bf16 autocast, fp32 weights"
    assert np.isfinite(passed(runner)[0].scores).all()


def test_a_compiler_that_is_missing(monkeypatch):
    def engine(self, inputs):
        raise torch._dynamo.exc.BackendCompilerFailed(
            lambda graph: graph, RuntimeError("No working C++ compiler"), None
        )

    monkeypatch.setattr(torch_runner.TorchRunner, "engine", engine)
    with pytest.raises(MissingError, match="No working C\\+\\+ compiler") as caught:
        BACKENDS["compiled"].open(FRESH, "compiled", OPTIONS)
    assert "--backend fused" in caught.value.hint


def test_a_size_that_is_no_multiple_of_32():
    with pytest.raises(UsageError, match="not a multiple of 32"):
        BACKENDS["fused"].open(FRESH, "fused", RunnerOptions("cpu", 1, None, (64, 100), 3))


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory", "CUDA out of memory"])
def test_no_memory_is_no_bug(message):
    runner = BACKENDS["fused"].open(FRESH, "fused", OPTIONS)

    def network(images):
        raise torch.OutOfMemoryError(message) if "CUDA" in message else RuntimeError(message)

    runner.network = network
    with pytest.raises(MemoryError):
        runner.engine(runner.prepare(IMAGES, SIZES))
