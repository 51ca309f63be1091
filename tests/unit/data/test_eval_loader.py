"""Images of an evaluation: once each, in order, whatever reads them."""

import threading
import time

import numpy as np
import pytest

from dfine_cli.data.eval_loader import AHEAD, EvalLoader
from dfine_cli.data.images import ImageError
from dfine_cli.data.preprocess import resize
from dfine_cli.types import Sample


class Images:
    """``count`` images of different sizes, image ids 100 and on; the first ones take longest to read."""

    def __init__(self, count: int = 7, bad: int | None = None) -> None:
        self.count, self.bad = count, bad
        self.read: list[int] = []
        self.readers: set[str] = set()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Sample:
        self.read.append(index)
        self.readers.add(threading.current_thread().name)
        time.sleep(0.002 * (self.count - index))
        if index == self.bad:
            raise ImageError("images/5.jpg: cannot read the image", "replace the file")
        image = np.random.default_rng(index).integers(0, 256, (40 + 3 * index, 70, 3), dtype=np.uint8)
        return Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), 100 + index)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("images")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_image_comes_once_in_order(workers: int) -> None:
    images = Images(7)
    loader = EvalLoader(images, input_size=(64, 96), batch=3, workers=workers)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    assert [i for b in batches for i in b.image_ids] == list(range(100, 107))
    assert [s for b in batches for s in b.sizes] == [(40 + 3 * i, 70) for i in range(7)]
    expected = np.stack([resize(images[i].image, (64, 96)) for i in range(7)])
    assert np.array_equal(np.concatenate([b.images for b in batches]), expected)


def test_threads_read_and_end() -> None:
    images = Images()
    list(EvalLoader(images, input_size=(32, 32), batch=2, workers=2))
    assert len(images.readers) == 2 and all(name.startswith("images") for name in images.readers)
    assert not readers()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_where_its_image_would_be(workers: int) -> None:
    batches = iter(EvalLoader(Images(bad=5), input_size=(32, 32), batch=2, workers=workers))
    assert [next(batches).image_ids, next(batches).image_ids] == [[100, 101], [102, 103]]
    with pytest.raises(ImageError, match=r"^images/5.jpg: cannot read the image$") as caught:
        next(batches)
    assert caught.value.hint == "replace the file"
    assert not readers()


def test_no_more_is_read_ahead_than_a_pass_needs() -> None:
    images = Images(30)
    batches = iter(EvalLoader(images, input_size=(32, 32), batch=2, workers=2))
    next(batches)
    assert len(images.read) <= 2 + AHEAD * 2


def test_reading_ends_when_nobody_asks_for_more() -> None:
    images = Images(30)
    batches = iter(EvalLoader(images, input_size=(32, 32), batch=2, workers=2))
    next(batches)
    del batches  # as an error or Ctrl-C between two batches does
    assert not readers() and len(images.read) < 30


def test_ctrl_c_while_waiting_ends_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import Future

    def interrupted(self: Future[object], timeout: float | None = None) -> object:
        raise KeyboardInterrupt

    images = Images(30)
    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(iter(EvalLoader(images, input_size=(32, 32), batch=2, workers=2)))
    assert not readers() and len(images.read) < 30


def test_no_images_are_no_batches() -> None:
    assert list(EvalLoader(Images(0), input_size=(32, 32), batch=2, workers=2)) == []
