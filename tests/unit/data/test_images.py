"""Reading images: odd kinds of pixels, rotation, damage."""

import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dfine_cli.data.images import ImageError, image_size, looks_complete, read_image

COLOURS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(COLOURS[:4, :4]).resize((64, 48), Image.Resampling.BICUBIC))


def save(path: Path, pixels: NDArray[np.uint8], kind: str = "PNG", **options: object) -> Path:
    Image.fromarray(pixels).save(path, kind, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a", "a.tif"])  # the content decides
def test_png_under_any_name(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, COLOURS)
    np.testing.assert_array_equal(read_image(path), COLOURS)
    assert image_size(path) == (24, 32)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP"])
def test_other_lossless_kinds(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    path = save(tmp_path / "a.img", COLOURS, kind, **options)
    np.testing.assert_array_equal(read_image(path), COLOURS)


def test_jpeg_is_what_pillow_reads(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", SMOOTH, "JPEG", quality=90)
    difference = np.abs(read_image(path).astype(int) - np.asarray(Image.open(path)))
    assert difference.max() <= 2  # two builds of the same decoder may round differently


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    alpha = np.zeros((24, 32, 1), np.uint8)
    path = save(tmp_path / "a.png", np.concatenate((COLOURS, alpha), 2))
    np.testing.assert_array_equal(read_image(path), COLOURS)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(0, 160, 10))])
def test_palette_is_expanded(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.fromarray(COLOURS).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_and_bilevel_become_three_equal_channels(tmp_path: Path, kind: str) -> None:
    grey = COLOURS[..., 0]
    read = read_image(save(tmp_path / "grey", grey, kind))
    np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, 2))
    read = read_image(save(tmp_path / "bilevel", grey > 99, kind))
    np.testing.assert_array_equal(read[..., 1], np.where(grey > 99, 255, 0))


def test_grey_with_alpha(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", COLOURS[..., :2])
    np.testing.assert_array_equal(read_image(path), np.repeat(COLOURS[..., :1], 3, 2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    grey = np.array([[0, 128, 129, 257, 25700, 65535]], np.uint16).repeat(4, 0)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), grey)
    assert read_image(path).shape == (4, 6, 3)
    for channel in range(3):
        assert read_image(path)[0, :, channel].tolist() == [0, 0, 1, 1, 100, 255]


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_is_scaled(tmp_path: Path, channels: int) -> None:
    bgr = np.zeros((4, 4, channels), np.uint16)
    bgr[..., :3] = (257, 25700, 65535)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), bgr)
    np.testing.assert_array_equal(read_image(path), np.full((4, 4, 3), (255, 100, 1), np.uint8))


def test_cmyk_jpeg_is_close_to_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(SMOOTH)
    image.convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    difference = np.abs(read_image(tmp_path / "a.jpg").astype(int) - SMOOTH)
    assert np.median(difference) <= 3  # JPEG at quality 98; inverted inks would be off by a hundred


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 6, 3), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[0, 0].tolist() == [10, 10, 10]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.img", SMOOTH, kind, exif=exif)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB")).astype(int)
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    for setting, expected in (("apply", upright), ("ignore", stored)):
        read = read_image(path, setting)
        assert np.abs(read - expected).max() <= 2  # two builds of the decoder may round differently
        assert image_size(path, setting) == read.shape[:2]
        assert read.flags.c_contiguous


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\xff\xff\xff\xff"])
def test_broken_exif_turns_nothing(tmp_path: Path, exif: bytes) -> None:
    path = save(tmp_path / "a.jpg", SMOOTH, "JPEG", exif=exif)
    assert read_image(path).shape == SMOOTH.shape
    assert image_size(path) == SMOOTH.shape[:2]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"gone\.jpg: image not found") as caught:
            read(tmp_path / "gone.jpg")
        assert "file_name" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"a\.jpg: "):
            read(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncation_is_found_and_named(tmp_path: Path, kind: str, share: float) -> None:
    path = save(tmp_path / "a.jpg", COLOURS.repeat(8, 0).repeat(8, 1), kind)
    assert looks_complete(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert not looks_complete(path)
    with pytest.raises(ImageError, match=r"a\.jpg: cannot read the image: .*truncated") as caught:
        read_image(path)
    assert "data.on_bad_image" in caught.value.hint


def test_truncation_is_found_behind_a_thumbnail(tmp_path: Path) -> None:
    """A preview inside the EXIF block has an end marker too; it must not pass for the end of the file."""
    thumbnail = io.BytesIO()
    Image.fromarray(SMOOTH).save(thumbnail, "JPEG")
    path = save(tmp_path / "a.jpg", COLOURS, "JPEG", exif=b"Exif\x00\x00" + thumbnail.getvalue())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


def test_bytes_after_the_end_do_not_matter(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG"):
        path = save(tmp_path / kind, SMOOTH, kind)
        clean = read_image(path)
        path.write_bytes(path.read_bytes() + b"trailer of a phone" * 3)
        assert not looks_complete(path)
        assert np.abs(read_image(path).astype(int) - clean).max() <= 2  # decoded by Pillow


def test_corrupt_png_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", COLOURS)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.png: cannot read the image"):
        read_image(path)


def test_32_bit_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with pytest.raises(ImageError, match="32 bits"):
        read_image(path)


def test_the_error_survives_the_way_from_a_worker(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "gone.jpg")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.message, copy.hint) == (caught.value.message, caught.value.hint)


def test_odd_files_read_as_pillow_reads_them(shared: Path) -> None:
    paths = sorted((shared / "data/fruits_odd/images").iterdir())
    assert len(paths) == 9
    for path in paths:
        with Image.open(path) as image:
            plain = image.convert("RGBA") if image.mode == "P" else image
            expected = np.asarray(plain.convert("RGB")).astype(int)
        assert np.abs(read_image(path) - expected).max() <= 2  # two builds of the decoder
        assert image_size(path) == expected.shape[:2]
