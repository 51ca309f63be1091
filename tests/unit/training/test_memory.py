"""What the allocator is told."""

import platform
import subprocess
import sys

import pytest

from dfine_cli.training.memory import keep_freed_blocks

TAKE_AND_FREE = """
import resource, torch
from dfine_cli.training.memory import keep_freed_blocks

if {keep}:
    assert keep_freed_blocks()
torch.set_num_threads(1)

def take_and_free(times):
    for _ in range(times):
        torch.ones(64 * 2**20 // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print(take_and_free(10) - take_and_free(20))
"""


def page_faults(keep: bool) -> int:
    """Page faults of taking and freeing 64 MB twenty times, after ten times more."""
    code = TAKE_AND_FREE.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return -int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc only")
def test_freed_memory_stays_with_the_process() -> None:
    assert page_faults(keep=True) < 0.2 * page_faults(keep=False)


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert keep_freed_blocks() is False
