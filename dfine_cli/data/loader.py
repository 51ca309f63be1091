"""Batches for training. What a batch holds is a function of seed, epoch and position alone.

Every sample is asked for by a key that says all about it (index, seed, phase, size), made in the main process.
A worker is a pure function of keys, so neither their number nor what ran before changes a batch, and a run can
start in the middle of an epoch.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from dfine_cli.config import schema
from dfine_cli.data.augment import Augment, Augmented
from dfine_cli.data.cache import Cached
from dfine_cli.data.collate import Packed, collate, scales
from dfine_cli.errors import DfineError
from dfine_cli.phases import Phase
from dfine_cli.types import Batch, Samples, Size

PREFETCH = 2
"""Batches each worker prepares ahead; they lie in shared memory, 39 MB for 32 images of 640x640."""


class Key(NamedTuple):
    """All that decides about one training sample."""

    phase: Phase
    image: int
    seed: int
    size: Size
    """(height, width) of its batch."""


class _Keys:
    """Keys of the batches of an epoch, for the DataLoader to hand out; ``plan`` them before each epoch."""

    def __init__(self) -> None:
        self.batches: list[list[Key]] = []

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Training:
    """Map-style data set from a key to an augmented sample and the size of its batch."""

    def __init__(self, augment: Augment) -> None:
        self.augment = augment

    def __getitem__(self, key: Key) -> tuple[Augmented, Size]:
        return self.augment(key.phase, key.image, key.seed), key.size


class _Stack:
    """Augmented samples to a batch; a class, so that workers can be spawned too."""

    def __init__(self, mode: Literal["nearest", "bilinear"]) -> None:
        self.mode = mode

    def __call__(self, items: Sequence[tuple[Augmented, Size]]) -> Packed:
        return collate([sample for sample, _ in items], items[0][1], self.mode)


class _Carry:
    """Data set and collate function in one, with errors handed over as values; ``_raised`` raises them.

    A DataLoader would make the traceback the message of an error raised in a worker, and lose its hint.

    Args:
        items: The data set.
        stack: Items to a batch.
    """

    def __init__(self, items: Any, stack: Callable[[Sequence[Any]], Any]) -> None:
        self.items = items
        self.stack = stack

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.items[key]
        except DfineError as error:
            return error

    def __call__(self, items: Sequence[Any]) -> Any:
        error = next((item for item in items if isinstance(item, DfineError)), None)
        return error or self.stack(items)


def _raised(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        if isinstance(batch, DfineError):
            raise batch
        yield batch


class TrainLoader:
    """Training batches of every epoch, from one set of workers that lives as long as the loader.

    Args:
        dataset: Where samples come from.
        augment: Probabilities of the transforms.
        input_size: (height, width) of the network input in pixels.
        batch: Images in a batch. The last, incomplete batch of an epoch is dropped, unless it is the only one.
        workers: Processes; 0 loads in this one.
        seed: Seed of order and transforms.
        pin_memory: Put batches into pinned memory, for copies to a GPU.
    """

    def __init__(
        self,
        dataset: Samples,
        *,
        augment: schema.Augment,
        input_size: Size,
        batch: int,
        workers: int,
        seed: int,
        pin_memory: bool = False,
    ) -> None:
        self.count = len(dataset)
        self.batch = batch
        self.seed = seed
        self.input_size = input_size
        self.sizes = scales(input_size, augment.multi_scale)
        self._keys = _Keys()
        samples = _Training(Augment(Cached(dataset), augment, input_size))
        carry = _Carry(samples, _Stack(augment.multi_scale_mode))
        self._loader: DataLoader[Any] | None = DataLoader(
            carry,  # type: ignore[arg-type]
            batch_sampler=self._keys,
            collate_fn=carry,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCH if workers else None,
            worker_init_fn=prepare_worker,
            generator=own_generator(),
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return max(1, self.count // self.batch)

    def epoch(self, epoch: int, phase: Phase, start: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch``, images [B, 3, H, W] uint8.

        Args:
            epoch: Counted from 0.
            phase: What the transforms do.
            start: Leave out so many batches at the beginning.
        """
        if self._loader is None:
            raise RuntimeError("the loader is closed")
        self._keys.batches = self._plan(epoch, phase)[start:]
        for packed in _raised(self._loader):
            yield packed.unpack()

    def close(self) -> None:
        """End the workers, even while an epoch is being read."""
        workers: Any = None if self._loader is None else self._loader._iterator
        if workers is not None:
            workers._shutdown_workers()  # private, but there is no other way while somebody holds the iterator
        self._loader = None

    def _plan(self, epoch: int, phase: Phase) -> list[list[Key]]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(self.count)
        seeds = rng.integers(2**62, size=self.count)
        count = len(self)
        sizes = rng.integers(len(self.sizes), size=count)
        return [
            [
                Key(phase, int(order[i]), int(seeds[i]), self._size(phase, int(sizes[b])))
                for i in range(b * self.batch, min((b + 1) * self.batch, self.count))
            ]
            for b in range(count)
        ]

    def _size(self, phase: Phase, drawn: int) -> Size:
        return self.input_size if phase is Phase.REFINE else self.sizes[drawn]


def own_generator() -> torch.Generator:
    """A generator for what a DataLoader draws by itself.

    It would draw from the global one, and a run resumed inside an epoch starts one loader more.
    """
    return torch.Generator().manual_seed(0)


def prepare_worker(_number: int) -> None:
    """One thread in each worker, and Ctrl-C left to the main process, which ends the workers itself."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
