"""The detector that PyTorch runs: a model in memory, or a checkpoint file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dfine_cli import checkpoint_format as keys
from dfine_cli.backends.detector import OpenOptions
from dfine_cli.boxes import cxcywh_to_xyxy
from dfine_cli.data.classes import ClassMap
from dfine_cli.errors import CheckError, MissingError, UsageError
from dfine_cli.model.dfine import DFINE, build_model, check_input_size
from dfine_cli.model.postprocess import best_pairs, to_pixels
from dfine_cli.tensor_file import load_plain, require_finite
from dfine_cli.types import Detections, Size


class TorchDetector:
    """A model behind the ``Detector`` protocol. It puts the model into eval mode and leaves it there.

    Args:
        model: The network, on ``device``.
        classes: The classes its logits stand for.
        input_size: (height, width) in pixels that images are resized to.
        device: Where the model is.
        name: What it is called in tables and file names.
        exif: How images were read in training, and are to be read for it.
        operating_point: What an evaluation stored; None if none did.
    """

    def __init__(
        self,
        model: DFINE,
        classes: ClassMap,
        input_size: Size,
        device: torch.device,
        name: str = "dfine",
        exif: Literal["apply", "ignore"] = "apply",
        operating_point: dict[str, Any] | None = None,
    ) -> None:
        self.model = model.eval()
        self.classes = classes
        self.input_size = input_size
        self.device = device
        self.name = name
        self.exif = exif
        self.operating_point = operating_point

    @torch.no_grad()  # not inference_mode: what the model caches here must still serve training
    def detect(self, images: NDArray[np.uint8], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, best first; see ``Detector.detect``."""
        batch = torch.from_numpy(images).to(self.device, non_blocking=True).float().div_(255)
        sizes_wh = torch.tensor([(width, height) for height, width in sizes], device=self.device)
        final = self.model(batch).final
        queries, labels, scores = best_pairs(final.logits, top_k=final.logits.shape[1])
        columns = [to_pixels(cxcywh_to_xyxy(final.boxes), queries, sizes_wh), scores, labels]
        if final.corners is not None:
            columns.append(to_pixels(self.model.decoder.edge_spread(final), queries, sizes_wh))
        arrays = [(c.float() if c.is_floating_point() else c).cpu().numpy() for c in columns]
        return [Detections(*image) for image in zip(*arrays, strict=True)]


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` takes a GPU where there is one.

    Raises:
        MissingError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise MissingError(f"device {name!r} is not there: {reason}", "use --device cpu") from error
    return device


def open_checkpoint(path: Path, device: str | torch.device = "auto") -> TorchDetector:
    """The detector in a checkpoint, with the weights that scored better: averaged or raw.

    Raises:
        CheckError: The file is cut off, of another tool or of another version, or its weights are no numbers.
        MissingError: There is no such device.
    """
    target = device if isinstance(device, torch.device) else choose_device(device)
    file = read_checkpoint(path)
    try:
        classes = ClassMap.from_dict(file[keys.CLASSES])
        recipe = file[keys.RECIPE]
        input_size: Size = tuple(recipe["data"]["input_size"])
        model = build_described(file[keys.SIZE], len(classes), input_size, recipe["model"])
        model.load_state_dict(file[file[keys.BEST_WEIGHTS]])
    except KeyError as error:
        raise CheckError(
            f"{path}: the checkpoint has no {error}", "it is incomplete; use another copy"
        ) from error
    except (TypeError, ValueError) as error:
        raise CheckError(f"{path}: the checkpoint is damaged: {error}", "use another copy") from error
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise CheckError(
            f"{path}: its weights do not fit the model its recipe describes: {_shortened(first[0].strip())}",
            "use another copy",
        ) from error
    require_finite(model.state_dict(), path)
    name = f"dfine-{file[keys.SIZE]}"
    point = file.get(keys.OPERATING_POINT)
    return TorchDetector(model.to(target), classes, input_size, target, name, recipe["data"]["exif"], point)


def with_options(detector: TorchDetector, options: OpenOptions) -> TorchDetector:
    """The detector at the input size that is asked for.

    Raises:
        UsageError: It cannot run at this size, or other classes than its own are asked for.
    """
    if options.classes is not None:
        raise UsageError("a checkpoint says itself which classes it has", "leave out --classes")
    if options.input_size is not None:
        check_input_size(options.input_size)
        detector.input_size = options.input_size
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return detector


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. No code from the file is run.

    Raises:
        CheckError: The file is cut off, of another tool or of another format version.
    """
    return keys.check_format(path, load_plain(path))


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def build_described(size: str, num_classes: int, input_size: Size, knobs: Mapping[str, Any]) -> DFINE:
    """The untrained model that the ``model`` section of a recipe describes."""
    return build_model(
        size,
        num_classes,
        input_size=input_size,
        num_queries=knobs["num_queries"],
        decoder_layers=knobs["decoder_layers"],
        points=tuple(knobs["points"]) if knobs["points"] else None,
        bins=knobs["bins"],
        weighting_a=knobs["weighting_a"],
        weighting_c=knobs["weighting_c"],
        num_denoising=knobs["num_denoising"],
        label_noise=knobs["label_noise"],
        box_noise=knobs["box_noise"],
        position_embedding=knobs["position_embedding"],
        activation=knobs.get("activation", "relu"),  # checkpoints of before have none, nor the next
        frozen_backbone=knobs.get("frozen_backbone", True),
    )
