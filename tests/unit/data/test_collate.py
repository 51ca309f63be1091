"""Batches and the sizes of multi-scale training."""

import numpy as np
import pytest
import torch

from dfine_cli.data.augment import Augmented
from dfine_cli.data.collate import collate, scales


def sample(image_id: int, objects: int, size: tuple[int, int] = (64, 96)) -> Augmented:
    rng = np.random.default_rng(image_id)
    return Augmented(
        rng.integers(0, 256, (3, *size), dtype=np.uint8),
        rng.random((objects, 4), np.float32),
        np.arange(objects, dtype=np.int64) + image_id,
        image_id,
        (10, 20 + image_id),
    )


def sides(base: int, repeats: int) -> list[int]:
    assert all(height == width for height, width in scales((base, base), repeats))
    return [height for height, _ in scales((base, base), repeats)]


def test_published_sizes_for_640() -> None:
    assert sides(640, 3) == [480, 512, 544, 576, 608, 640, 640, 640, 800, 768, 736, 704, 672]


def test_sizes_for_320_are_not_symmetric() -> None:
    assert sides(320, 2) == [224, 256, 288, 320, 320, 384, 352, 320]


@pytest.mark.parametrize(("repeats", "share"), [(3, 0.23), (4, 0.29), (6, 0.375), (20, 0.67)])
def test_share_of_the_base_size(repeats: int, share: float) -> None:
    drawn = sides(640, repeats)
    assert drawn.count(640) / len(drawn) == pytest.approx(share, abs=0.005)


def test_no_repeats_turn_multi_scale_off() -> None:
    assert scales((320, 640), 0) == [(320, 640)]


def test_rectangles_keep_their_shape_in_multiples_of_32() -> None:
    drawn = scales((384, 640), 1)
    assert (384, 640) in drawn and len(drawn) == 11
    for height, width in drawn:
        assert height % 32 == 0 and width % 32 == 0
        assert abs(height - width * 384 / 640) <= 16
    assert max(drawn) == (480, 800) and min(drawn) == (288, 480)


def test_smallest_size_stays_a_multiple_of_32() -> None:
    assert set(scales((32, 32), 2)) == {(32, 32)}
    assert min(min(s) for s in scales((32, 320), 1)) == 32


def test_batch_keeps_every_value() -> None:
    samples = [sample(3, 2), sample(5, 0), sample(8, 4)]
    batch = collate(samples, (64, 96), "nearest").unpack()
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (3, 3, 64, 96)
    assert batch.images.is_contiguous()
    for image, target, s in zip(batch.images, batch.targets, samples, strict=True):
        assert torch.equal(image, torch.from_numpy(s.image))
        assert torch.equal(target.boxes, torch.from_numpy(s.boxes))
        assert torch.equal(target.labels, torch.from_numpy(s.labels))
        assert target.boxes.shape == (len(s.labels), 4) and target.labels.dtype == torch.int64
        assert (target.image_id, target.original_size) == (s.image_id, s.original_size)


def test_batch_without_any_object() -> None:
    batch = collate([sample(1, 0), sample(2, 0)], (64, 96), "nearest").unpack()
    assert [t.boxes.shape for t in batch.targets] == [(0, 4), (0, 4)]


def test_nearest_takes_pixels_as_they_are() -> None:
    samples = [sample(3, 1)]
    images = collate(samples, (128, 192), "nearest").images
    assert torch.equal(images[0, :, ::2, ::2], torch.from_numpy(samples[0].image))
    assert torch.equal(images[0, :, 1::2, 1::2], torch.from_numpy(samples[0].image))


def test_bilinear_mixes_them_and_leaves_boxes() -> None:
    samples = [sample(3, 2)]
    packed = collate(samples, (96, 160), "bilinear")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(samples[0].image)[None].double(), (96, 160), mode="bilinear"
    )
    assert (packed.images - expected).abs().max() <= 1  # rounding to bytes
    assert torch.equal(packed.boxes, torch.from_numpy(samples[0].boxes))
