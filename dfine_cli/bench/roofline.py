"""An estimate of the latency on a GPU that is not here, from what the layers of a network compute and move.

Every layer takes as long as the slower of its arithmetic and its memory traffic would at the GPU's peak (the
roofline of Williams et al., CACM 2009), times one factor for how far from the peak real kernels are, plus
one constant for starting a kernel. Factor and constant are fitted to known latencies; how far the fit misses a latency that it has not seen (leave-one-out) is part of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import nnls

from dfine_cli.types import Size

HALF_BYTES = 2
"""Bytes of a number in half precision."""

Unit = Literal["tensor", "vector"]
"""Where a GPU computes it: dense products in tensor cores, all else in vector units."""


class Layer(NamedTuple):
    """One operation that becomes a kernel of its own."""

    part: str
    """Part of the network."""
    operation: str
    flops: int
    """Two for each multiply-add of a convolution or product; 0 for what only moves data."""
    elements: int
    """Numbers read and written, weights included."""
    unit: Unit


class GpuPeak(NamedTuple):
    """What a GPU can do at most in half precision."""

    name: str
    flops_per_s: dict[Unit, float]
    bytes_per_s: float


T4 = GpuPeak("T4", {"tensor": 65e12, "vector": 16.2e12}, 320e9)
"""65 TFLOP/s in tensor cores, twice the 8.1 TFLOP/s of FP32 in vector units, 320 GB/s (data sheet)."""


class Work(NamedTuple):
    """What a network asks of a GPU."""

    ideal_ms: dict[str, float]
    """By part: milliseconds at the peak, each layer by its slower limit."""
    launches: dict[str, int]
    """By part: kernels."""
    gflops: float

    @property
    def total(self) -> tuple[float, int]:
        """Milliseconds and kernels of all parts."""
        return sum(self.ideal_ms.values()), sum(self.launches.values())


class Calibration(NamedTuple):
    """What turns work into milliseconds, and how well."""

    factor: float
    """Real over ideal time of a layer."""
    launch_ms: float
    """Milliseconds to start a kernel."""
    residuals: dict[str, float]
    """By size: estimate over published latency, minus one, with the size among those fitted."""
    left_out: dict[str, float]
    """The same with the size left out of the fit: what to expect for a network that was not measured."""

    @property
    def mean_error(self) -> float:
        """Mean leave-one-out error as a fraction."""
        return float(np.mean(np.abs(list(self.left_out.values()))))

    @property
    def worst_error(self) -> float:
        """Largest leave-one-out error as a fraction."""
        return float(np.max(np.abs(list(self.left_out.values()))))


class Estimate(NamedTuple):
    """An estimated latency of one image; no measurement."""

    model: str
    input_size: Size
    num_classes: int
    gflops: float
    latency_ms: float
    parts_ms: dict[str, float]


def work_of(layers: Sequence[Layer], gpu: GpuPeak) -> Work:
    """What ``layers`` ask of ``gpu`` in half precision."""
    ideal: dict[str, float] = {}
    launches: dict[str, int] = {}
    for layer in layers:
        seconds = max(
            layer.flops / gpu.flops_per_s[layer.unit], layer.elements * HALF_BYTES / gpu.bytes_per_s
        )
        ideal[layer.part] = ideal.get(layer.part, 0.0) + seconds * 1000
        launches[layer.part] = launches.get(layer.part, 0) + 1
    return Work(ideal, launches, sum(layer.flops for layer in layers) / 1e9)


def calibrate(works: Mapping[str, Work], latencies_ms: Mapping[str, float]) -> Calibration:
    """Fit factor and launch time to known latencies by least squares of the relative error, neither below zero.

    Args:
        works: At least three networks by name.
        latencies_ms: The latency of each.
    """
    everything = list(works)
    factor, launch_ms = _fit(works, latencies_ms, everything)

    def miss(name: str, fitted: Sequence[str]) -> float:
        ideal, launches = works[name].total
        by_factor, by_launch = _fit(works, latencies_ms, fitted)
        return (ideal * by_factor + launches * by_launch) / latencies_ms[name] - 1

    return Calibration(
        factor=factor,
        launch_ms=launch_ms,
        residuals={name: miss(name, everything) for name in everything},
        left_out={name: miss(name, [other for other in everything if other != name]) for name in everything},
    )


def _fit(
    works: Mapping[str, Work], latencies_ms: Mapping[str, float], names: Sequence[str]
) -> tuple[float, float]:
    rows = [[value / latencies_ms[name] for value in works[name].total] for name in names]
    factor, launch_ms = nnls(np.asarray(rows), np.ones(len(rows)))[0].tolist()
    return factor, launch_ms
