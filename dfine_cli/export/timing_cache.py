"""Times of layers that TensorRT measured, kept for the next build on the same GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dfine_cli.backends.cuda import GpuFacts
from dfine_cli.whole_file import whole_file


class TimingCache:
    """The file for one version of TensorRT on one kind of GPU; with another its times would be wrong.

    Args:
        file: Where it is; it need not be there yet.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._given: Any = None  # must outlive the build

    @classmethod
    def of(cls, folder: Path, tensorrt: str, gpu: GpuFacts) -> TimingCache:
        """The file in ``folder`` for a version of TensorRT and a GPU."""
        name = re.sub(r"[^a-z0-9]+", "-", f"{gpu.name} {gpu.compute_capability}".lower())
        return cls(folder / f"timing-{tensorrt}-{name}.cache")

    def load(self, config: Any) -> None:
        """Give the times to a builder's config; it begins without any if there are none that it takes."""
        known = self.file.read_bytes() if self.file.is_file() else b""
        for content in (known, b""):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, False):
                self._given = cache
                return

    def save(self, config: Any) -> None:
        """Keep what the builder knows now."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        with whole_file(self.file) as part:
            part.write_bytes(bytes(cache.serialize()))
