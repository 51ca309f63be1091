"""TensorRT engines behind the ``Detector`` protocol."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfine_cli.artefact import BatchRange
from dfine_cli.backends.description import IMAGES, SIZES, Graph, describe
from dfine_cli.backends.detector import OpenOptions
from dfine_cli.backends.engine_layers import count_layer_types, describe_layer_types
from dfine_cli.backends.exported import EventTimer, ExportedDetector, Found
from dfine_cli.backends.tensorrt_engine import Engine, open_plan


class TensorRTSession:
    """A ``Session`` on one engine.

    ``prepare`` fills the only buffers of the engine, so ``run`` always runs what was prepared last.

    Args:
        engine: The engine.
        graphs: Whether a pass is one CUDA graph, captured anew whenever the number of images changes.
    """

    def __init__(self, engine: Engine, graphs: bool = False) -> None:
        self.engine = engine
        self._graphs = graphs
        self.precision = describe_layer_types(count_layer_types(engine.plan, engine.trt)) or "not told"

    @property
    def device(self) -> str:
        """Such as ``cuda:0``."""
        return f"cuda:{self.engine.cuda.index}"

    @property
    def graph(self) -> Graph:
        """Names and shapes; a batch that the profile leaves open is None."""
        shapes = {}
        for name, port in self.engine.inputs.items():
            least, usual, most = port.shapes
            shapes[name] = [None if least[0] != most[0] else most[0], *usual[1:]]
        return Graph(shapes, list(self.engine.outputs))

    @property
    def batch(self) -> BatchRange:
        """Images that the profile allows in one pass."""
        return BatchRange(*(shape[0] for shape in self.engine.inputs[IMAGES].shapes))

    def prepare(self, images: NDArray[np.float32], sizes_wh: NDArray[np.int64]) -> Engine:
        """Inputs on the device; see ``Session.prepare``.

        Raises:
            UsageError: The profile does not take them.
            MemoryError: The GPU has no memory left for them.
        """
        arrays: dict[str, NDArray[Any]] = {IMAGES: images, SIZES: sizes_wh}
        self.engine.load({name: arrays[name] for name in self.engine.inputs})
        if self._graphs and not self.engine.is_captured:
            self.engine.capture()
        return self.engine

    def run(self, inputs: Engine) -> Engine:
        """One pass; see ``Session.run``."""
        inputs.run()
        return inputs

    def fetch(self, outputs: Engine) -> Found:
        """What a pass gave; see ``Session.fetch``."""
        found = outputs.read()
        return Found(
            found["labels"].astype(np.int64),
            found["boxes"].astype(np.float32),
            found["scores"].astype(np.float32),
        )

    def sync(self) -> None:
        """Wait for the GPU."""
        self.engine.cuda.sync()

    @property
    def event_timer(self) -> EventTimer:
        """CUDA events around what a call puts into the stream."""
        return self.engine.time_ms

    def peak_device_mb(self) -> float:
        """Memory that went since the engine was opened; its buffers only grow, so this is their peak."""
        return self.engine.memory_mb


def open_engine(file: Path, options: OpenOptions, graphs: bool = False) -> ExportedDetector:
    """The detector in an engine of ``dfine export``, or of another tool with the same inputs and outputs.

    Args:
        file: The engine.
        options: Device, and what a file without description does not say.
        graphs: See ``TensorRTSession``.

    Raises:
        DfineError: The file is damaged, was built elsewhere, or holds another network.
        UsageError: The options contradict the file, or ask for another device than a GPU.
        MissingError: TensorRT, cuda-python, the driver or the GPU is not there.
    """
    session = TensorRTSession(open_plan(file, options.device), graphs)
    artefact = dataclasses.replace(describe(file, None, session.graph, options), batch=session.batch)
    return ExportedDetector(session, artefact, file, told_classes=options.classes is not None)
