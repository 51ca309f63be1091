"""The loaders: what a batch holds depends on seed, epoch and position alone."""

import gc
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from dfine_cli.config.schema import Augment
from dfine_cli.data.cache import Cached
from dfine_cli.data.classes import ClassMap
from dfine_cli.data.coco import CocoDataset, load_coco
from dfine_cli.data.images import ImageError
from dfine_cli.data.loader import TrainLoader
from dfine_cli.phases import Phase
from dfine_cli.types import Batch, Sample

KNOBS = Augment(mosaic=0.5, multi_scale=1)


class Images:
    """``count`` noisy images of different sizes with one to three objects, image ids 100 and on."""

    def __init__(self, count: int = 11, bad: int | None = None) -> None:
        self.count, self.bad, self.read = count, bad, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Sample:
        self.read += 1
        if index == self.bad:
            raise ImageError("images/5.jpg: cannot read the image", "replace the file")
        rng = np.random.default_rng(index)
        height, width = 40 + 3 * index, 70 - 2 * index
        low = rng.uniform(0, 15, (1 + index % 3, 2))
        boxes = np.concatenate((low, low + rng.uniform(10, 20, low.shape)), 1).astype(np.float32)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Sample(image, boxes, np.arange(len(boxes), dtype=np.int64), 100 + index)


@pytest.fixture
def make() -> Iterator[Callable[..., TrainLoader]]:
    loaders = []

    def start(
        images: Images, *, batch: int = 3, workers: int = 0, seed: int = 5, knobs: Augment = KNOBS
    ) -> TrainLoader:
        loader = TrainLoader(
            images, augment=knobs, input_size=(64, 128), batch=batch, workers=workers, seed=seed
        )
        loaders.append(loader)
        return loader

    yield start
    for loader in loaders:
        loader.close()


def same(ones: list[Batch], others: list[Batch]) -> bool:
    def equal(a: Batch, b: Batch) -> bool:
        return torch.equal(a.images, b.images) and all(
            torch.equal(s.boxes, t.boxes) and torch.equal(s.labels, t.labels) and s[2:] == t[2:]
            for s, t in zip(a.targets, b.targets, strict=True)
        )

    return len(ones) == len(others) and all(map(equal, ones, others))


def ids(batches: list[Batch]) -> list[int]:
    return [t.image_id for batch in batches for t in batch.targets]


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(
    workers: int, make: Callable[..., TrainLoader]
) -> None:
    alone, helped = make(Images()), make(Images(), workers=workers)
    for epoch, phase in enumerate((Phase.WARM, Phase.DENSE, Phase.PLAIN, Phase.REFINE)):
        assert same(list(alone.epoch(epoch, phase)), list(helped.epoch(epoch, phase)))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_be_entered_in_the_middle(workers: int, make: Callable[..., TrainLoader]) -> None:
    whole = list(make(Images()).epoch(4, Phase.DENSE))
    for start in range(4):
        resumed = make(Images(), workers=workers)
        assert same(list(resumed.epoch(4, Phase.DENSE, start)), whole[start:])


def test_an_epoch_does_not_depend_on_what_ran_before(make: Callable[..., TrainLoader]) -> None:
    fresh, used = make(Images(), workers=2), make(Images(), workers=2)
    list(used.epoch(0, Phase.DENSE))
    next(iter(used.epoch(1, Phase.PLAIN)))  # left in the middle
    torch.rand(3)
    np.random.default_rng().random()
    assert same(list(used.epoch(2, Phase.PLAIN)), list(fresh.epoch(2, Phase.PLAIN)))


def test_batches_do_not_touch_the_global_generator(make: Callable[..., TrainLoader]) -> None:
    state = torch.get_rng_state()
    list(make(Images(), workers=1).epoch(0, Phase.PLAIN))
    assert torch.equal(torch.get_rng_state(), state)


def test_epochs_and_seeds_differ(make: Callable[..., TrainLoader]) -> None:
    loader = make(Images())
    first = list(loader.epoch(0, Phase.PLAIN))
    assert not same(first, list(loader.epoch(1, Phase.PLAIN)))
    assert not same(first, list(make(Images(), seed=6).epoch(0, Phase.PLAIN)))
    assert same(first, list(loader.epoch(0, Phase.PLAIN)))


def test_every_image_comes_once_but_for_the_dropped_rest(make: Callable[..., TrainLoader]) -> None:
    loader = make(Images(11), batch=3)
    assert len(loader) == 3
    seen = ids(list(loader.epoch(0, Phase.PLAIN)))
    assert len(seen) == len(set(seen)) == 9 and set(seen) <= set(range(100, 111))
    assert seen != sorted(seen), "shuffled"


@pytest.mark.parametrize("phase", list(Phase))
def test_fewer_images_than_a_batch_are_one_short_batch(
    phase: Phase, make: Callable[..., TrainLoader]
) -> None:
    loader = make(Images(2), batch=8)
    assert len(loader) == 1
    (batch,) = loader.epoch(0, phase)
    assert sorted(ids([batch])) == [100, 101] and len(batch.images) == 2


def test_sizes_change_by_batch_but_not_in_the_last_phase(make: Callable[..., TrainLoader]) -> None:
    loader = make(Images(12))

    def sizes(phase: Phase) -> list[tuple[int, ...]]:
        return [tuple(b.images.shape[2:]) for epoch in range(8) for b in loader.epoch(epoch, phase)]

    assert set(sizes(Phase.REFINE)) == {(64, 128)}
    assert set(sizes(Phase.PLAIN)) == set(loader.sizes) and len(set(loader.sizes)) > 2


def test_multi_scale_off_is_the_input_size(make: Callable[..., TrainLoader]) -> None:
    loader = make(Images(), knobs=Augment())
    assert {tuple(b.images.shape[2:]) for b in loader.epoch(0, Phase.PLAIN)} == {(64, 128)}


def test_images_travel_as_bytes(make: Callable[..., TrainLoader]) -> None:
    for batch in make(Images(), workers=1).epoch(0, Phase.PLAIN):
        assert batch.images.dtype == torch.uint8
        assert batch.images.max() > 127
        assert batch.targets[0].original_size[0] >= 40


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_keeps_its_message_and_hint(workers: int, make: Callable[..., TrainLoader]) -> None:
    loader = make(Images(bad=5), workers=workers)
    with pytest.raises(ImageError) as caught:
        list(loader.epoch(0, Phase.PLAIN)) + list(loader.epoch(1, Phase.PLAIN))
    assert str(caught.value) == "images/5.jpg: cannot read the image"
    assert caught.value.hint == "replace the file"


def test_workers_live_through_epochs_and_end_with_close(make: Callable[..., TrainLoader]) -> None:
    before = set(multiprocessing.active_children())
    loader = make(Images(), workers=2)
    list(loader.epoch(0, Phase.PLAIN))
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2
    left_open = loader.epoch(1, Phase.PLAIN)
    next(left_open)
    assert set(multiprocessing.active_children()) - before == started
    loader.close()
    assert not set(multiprocessing.active_children()) - before
    loader.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(loader.epoch(2, Phase.PLAIN))
    del left_open
    gc.collect()


def test_cache_keeps_what_fits_and_reads_the_rest_again() -> None:
    images = Images(3)
    sizes = [images[i].image.nbytes for i in range(3)]
    cached, images.read = Cached(images, limit=sizes[0] + sizes[1]), 0
    for _ in range(2):
        for i in range(3):
            assert np.array_equal(cached[i].image, Images()[i].image)
    assert images.read == 4 and len(cached) == 3


def test_a_coco_data_set_with_workers(shared: Path, make: Callable[..., TrainLoader]) -> None:
    file = load_coco(shared / "data/bccd/annotations/instances_val.json")
    dataset = CocoDataset(file, shared / "data/bccd/val", ClassMap.build(file.categories, "auto"))
    assert len(pickle.loads(pickle.dumps(dataset))) == len(dataset)
    known = set(dataset.image_ids.tolist())
    for batch in islice(make(dataset, workers=1, batch=8).epoch(0, Phase.DENSE), 2):
        assert set(ids([batch])) <= known
        assert {t.original_size for t in batch.targets} == {(480, 640)}
        assert sum(len(t.labels) for t in batch.targets) > 8
