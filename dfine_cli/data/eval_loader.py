"""Every image of a data set once, preprocessed, in order; read ahead by threads. No torch.

Decoding and resizing leave Python's lock, so threads do what processes would: they start at once, share their
images without copies, and cannot be cut off from shared memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfine_cli.data.preprocess import resize
from dfine_cli.types import Samples, Size

AHEAD = 2
"""Images that are read ahead for each that a batch or the threads need."""


class EvalBatch(NamedTuple):
    """Images of the network's size."""

    images: NDArray[np.uint8]
    """[B, 3, H, W] RGB."""
    image_ids: list[int]
    sizes: list[Size]
    """(height, width) of the original images in pixels."""


class _Prepared(NamedTuple):
    """One image of a batch."""

    image: NDArray[np.uint8]
    image_id: int
    size: Size


class EvalLoader:
    """Every image of a data set once, in order, preprocessed.

    Args:
        dataset: Where samples come from; with workers it is asked from several threads.
        input_size: (height, width) of the network input in pixels.
        batch: Images in a batch; the last one may be smaller.
        workers: Threads; 0 reads when a batch is asked for.
    """

    def __init__(self, dataset: Samples, *, input_size: Size, batch: int, workers: int) -> None:
        self._dataset = dataset
        self._input_size = input_size
        self._batch = batch
        self._workers = workers

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self._dataset) // self._batch)

    def __iter__(self) -> Iterator[EvalBatch]:
        """The batches; what reading an image raises is raised in its place."""
        images = self._ahead() if self._workers else map(self._prepare, range(len(self._dataset)))
        while part := list(islice(images, self._batch)):
            pictures, image_ids, sizes = zip(*part, strict=True)
            yield EvalBatch(np.stack(pictures), list(image_ids), list(sizes))

    def _prepare(self, index: int) -> _Prepared:
        sample = self._dataset[index]
        height, width = sample.image.shape[:2]
        return _Prepared(resize(sample.image, self._input_size), sample.image_id, (height, width))

    def _ahead(self) -> Iterator[_Prepared]:
        """All images in order, while threads read the next ones."""
        indices = iter(range(len(self._dataset)))
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="images")
        waiting: deque[Future[_Prepared]] = deque()
        try:
            for index in islice(indices, AHEAD * max(self._batch, self._workers)):
                waiting.append(pool.submit(self._prepare, index))
            while waiting:
                image = waiting.popleft().result()
                for index in islice(indices, 1):
                    waiting.append(pool.submit(self._prepare, index))
                yield image
        finally:  # an error, Ctrl-C, or nobody asks for more
            pool.shutdown(cancel_futures=True)
