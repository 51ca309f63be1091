"""The weights, images and targets of the recorded reference numbers, for every parity test.

``golden/fill.py`` gives each entry of a state dict a value that depends on its name and shape alone, so a model
with the published names holds the recorded weights without a checkpoint.
"""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from dfine_cli.model.dfine import DFINE
from dfine_cli.model.sizes import SIZES, ModelSize
from dfine_cli.types import Target

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def _load_fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill = _load_fill()


def recorded_size(name: str) -> ModelSize:
    """The size as it was when ``golden`` was recorded, which is not the published one except for N.

    The published loader keeps settings of one configuration for the next in the same process. The recordings of
    S, M, L and X carry two settings of N or M: 512 channels in the decoder's feed-forward network where published
    weights have 1024, and the learnable affine in the backbone of L and X, which published weights do not have.
    The sizes as published are held to the digests and to the check values of the specification instead.
    """
    return dataclasses.replace(
        SIZES[name], decoder_feedforward=512, learnable_affine=True, freeze_norm=False, freeze_stem=False
    )


def fill_model(model: DFINE, dtype: torch.dtype = torch.float64) -> DFINE:
    """Bring ``model`` to ``dtype`` and give it the recorded weights; the same module is returned."""
    model.to(dtype)
    state = model.state_dict()
    for key, value in state.items():
        recorded = fill.value_for(key, tuple(value.shape))
        if recorded is not None:
            state[key] = torch.as_tensor(recorded)
    model.load_state_dict(state)
    return model


def golden_images(batch: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The recorded images [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(fill.images(batch, height, width)).to(dtype)


def golden_targets(
    counts: Sequence[int], num_classes: int, dtype: torch.dtype = torch.float64
) -> list[Target]:
    """The recorded targets, ``counts[i]`` objects in image i."""
    found = fill.targets(tuple(counts), num_classes)  # a list gives other numbers: its text is the seed
    return [
        Target(torch.from_numpy(image["labels"]), torch.from_numpy(image["boxes"]).to(dtype), index, (1, 1))
        for index, image in enumerate(found)
    ]
