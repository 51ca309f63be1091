"""What a figure was measured on: versions, load, memory."""

from __future__ import annotations

import mmap
import os
import sys
from dataclasses import replace

import numpy as np
import pytest

from dfine_cli import __version__
from dfine_cli.bench import memory
from dfine_cli.bench.environment import read_environment
from dfine_cli.bench.gpu import GpuInfo


def test_versions_threads_and_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/dfine", "bench", "n"])
    environment = read_environment(threads=3, gpu=None)
    assert environment.dfine == __version__ and environment.threads == 3
    assert environment.packages["torch"] and environment.packages["numpy"] == np.__version__
    assert environment.command == ("dfine", "bench", "n")
    assert environment.cpu and 1 <= environment.cpus <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("load", "busy"), [(0.1, False), (0.9, True), (None, False)])
def test_a_machine_is_busy_when_others_use_it(load, busy):
    environment = replace(read_environment(2, None), load=load, cpus=2)
    assert environment.busy is busy


def test_the_device_is_the_gpu_if_there_is_one():
    environment = read_environment(2, None)
    assert environment.device == environment.cpu
    assert replace(environment, gpu=GpuInfo("Tesla T4", "550", "12.4", None, None)).device == "Tesla T4"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
def test_a_peak_can_be_forgotten():
    assert memory.forget_peak()
    before = memory.peak_mb()
    with mmap.mmap(-1, 64 * 2**20) as block:  # fresh pages, whatever the allocator keeps
        np.frombuffer(block, np.uint8)[:] = 1
        high = memory.peak_mb()
    assert memory.forget_peak()
    after = memory.peak_mb()
    assert before is not None and high is not None and after is not None
    assert high > before + 32 and after < high - 32
