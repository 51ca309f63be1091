"""A machine with each recorded release of TensorRT and a GPU, as far as they can be without either."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.tensorrt.fake_cuda import FakeGpu
from tests.unit.tensorrt.simulated_runtime import SIMULATED
from tests.unit.tensorrt.simulation import World
from tests.unit.tensorrt.surface import Surface

VERSIONS = ("10.0.1", "10.13.3.9", "11.4.0.106")


@lru_cache
def recorded(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def make_world(folder: Path, version: str, gpu: FakeGpu | None = None) -> World:
    world = World(version, gpu or FakeGpu())
    world.trt = Surface(recorded(folder / f"api-{version}.json"), version, SIMULATED, world).module
    return world


def install(monkeypatch: pytest.MonkeyPatch, world: World, cuda: str = "cuda.bindings.runtime") -> None:
    """Make the modules of a machine those that programs import; ``cuda`` is where the runtime's functions are."""
    monkeypatch.setitem(sys.modules, "tensorrt", world.trt)
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, world.gpu.module(name) if name == cuda else None)


@pytest.fixture(params=VERSIONS)
def world(request: pytest.FixtureRequest, shared: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(shared / "tensorrt", request.param)
    install(monkeypatch, made)
    return made


@pytest.fixture
def trt(world: World) -> ModuleType:
    return world.trt


@pytest.fixture
def elsewhere(world: World, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Move to another machine."""

    def move(version: str | None = None, gpu: FakeGpu | None = None) -> World:
        other = make_world(shared / "tensorrt", version or world.version, gpu)
        install(monkeypatch, other)
        return other

    return move
