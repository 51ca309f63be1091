"""Decoded samples kept in memory, as many as fit."""

from dfine_cli.types import Sample, Samples

LIMIT = 256 * 2**20
"""Bytes of decoded images that a process keeps."""


class Cached:
    """Samples of which the first that are asked for stay decoded, up to ``LIMIT`` bytes in each process.

    Small data sets then are decoded once per worker, and a mosaic costs no four decodings; of large ones a
    part is kept. Nothing is evicted: with random access every image is as likely to be next as any other.

    Args:
        samples: Where samples come from.
        limit: Bytes of images to keep.
    """

    def __init__(self, samples: Samples, limit: int = LIMIT) -> None:
        self.samples = samples
        self.free = limit
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int, /) -> Sample:
        """One sample; treat it as read-only."""
        if index in self._kept:
            return self._kept[index]
        sample = self.samples[index]
        if sample.image.nbytes <= self.free:
            self.free -= sample.image.nbytes
            self._kept[index] = sample
        return sample
