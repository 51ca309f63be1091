"""The estimate for a T4: calibrated on the published latencies, made for any D-FINE at any input size."""

from __future__ import annotations

from functools import cache

from dfine_cli.bench import published
from dfine_cli.bench.layers import count_layers
from dfine_cli.bench.roofline import T4, Calibration, Estimate, Work, calibrate, work_of
from dfine_cli.model.dfine import DFINE, build_model
from dfine_cli.types import Size


@cache
def calibrate_t4() -> Calibration:
    """The calibration on the five published latencies, with the layers counted now."""

    def work(size: str) -> Work:
        model = build_model(size, published.NUM_CLASSES, input_size=published.INPUT_SIZE)
        return work_of(count_layers(model, published.INPUT_SIZE), T4)

    return calibrate({size: work(size) for size in published.LATENCY_MS}, published.LATENCY_MS)


def estimate_t4(model: DFINE, name: str, input_size: Size, calibration: Calibration) -> Estimate:
    """What ``model`` would cost on a T4 under the published conditions, but for its input size.

    Args:
        model: As it is trained.
        name: What to call it.
        input_size: (height, width) in pixels.
        calibration: Of ``calibrate_t4``.
    """
    work = work_of(count_layers(model, input_size), T4)
    parts_ms = {
        part: ideal_ms * calibration.factor + work.launches[part] * calibration.launch_ms
        for part, ideal_ms in work.ideal_ms.items()
    }
    return Estimate(name, input_size, model.num_classes, work.gflops, sum(parts_ms.values()), parts_ms)
