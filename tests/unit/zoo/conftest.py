"""Weights of every size, made once for all tests of the zoo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dfine_cli.model.dfine import build_model
from tests.unit.zoo.server import Behaviour, serving

State = dict[str, Tensor]


@lru_cache
def fresh_state(size: str, num_classes: int) -> State:
    """An initialised model's state dict, shared: copy before changing it."""
    torch.manual_seed(0)
    return build_model(size, num_classes).state_dict()


@pytest.fixture
def state_of() -> Callable[..., State]:
    """A state dict that may be changed, by size and number of classes."""

    def make(size: str = "n", num_classes: int = 80) -> State:
        return dict(fresh_state(size, num_classes))

    return make


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write content as a file of ``torch.save``."""

    def write(content: object, name: str = "weights.pth") -> Path:
        path = tmp_path / name
        torch.save(content, path)
        return path

    return write


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    """A real HTTP server, reached without any proxy of the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(Behaviour()) as behaviour:
        yield behaviour
