"""Image files and arrays become exactly what the network reads, or one clear error."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from o3bnn.data import list_images, load_images, read_image, read_npy
from o3bnn.errors import InputError
from o3bnn.model import InputEncoding

GREY = InputEncoding(4, 6, 1)
RGB = InputEncoding(4, 6, 3)
NOISE = np.random.default_rng(7).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "PNG"])
def test_an_image_of_the_right_size_is_used_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", NOISE)
    assert np.array_equal(read_image(path, RGB), NOISE)


def test_the_right_size_is_not_scaled_to_a_larger_cover(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", NOISE)
    assert np.array_equal(read_image(path, InputEncoding(4, 6, 3, cover=(8, 12))), NOISE)


def test_grey_is_luma_and_rgb_repeats_grey(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", NOISE)
    weights = np.array([19595, 38470, 7471])  # 0.299, 0.587, 0.114 in 16-bit fixed point
    assert np.array_equal(read_image(path, GREY)[..., 0], (NOISE @ weights + 0x8000) >> 16)
    grey = write(tmp_path / "g.png", NOISE[..., 0])
    assert np.array_equal(read_image(grey, RGB), np.repeat(NOISE[..., :1], 3, axis=2))


@pytest.mark.parametrize("encoding", [GREY, RGB])
def test_transparency_is_laid_on_white(tmp_path: Path, encoding: InputEncoding) -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:2, :, 3] = 255
    image = read_image(write(tmp_path / "a.png", pixels), encoding)
    assert np.all(image[:2] == 0)
    assert np.all(image[2:] == 255)


def test_a_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) % 2).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.gif", transparency=1)
    assert read_image(tmp_path / "a.gif", RGB)[0, :2].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    path = write(tmp_path / "a.png", values)
    assert np.array_equal(read_image(path, GREY)[..., 0], values >> 8)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((4, 6), np.float32))
    with pytest.raises(InputError, match=r"a\.tif: floating-point pixels"):
        read_image(path, GREY)


def test_exif_orientation_turns_the_image_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    path = write(tmp_path / "a.png", np.ascontiguousarray(np.rot90(NOISE)), exif=exif)
    assert np.array_equal(read_image(path, RGB), NOISE)


def test_a_scaled_image_is_the_centre_of_the_whole_one_scaled(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 96, 3), dtype=np.uint8)
    path = write(tmp_path / "a.png", pixels)
    whole = np.asarray(Image.fromarray(pixels).resize((24, 10), Image.Resampling.BILINEAR))
    encoding = InputEncoding(8, 8, 3, cover=(10, 10))
    assert np.array_equal(read_image(path, encoding), whole[1:9, 8:16])


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (5, 7), (299, 301)])
@pytest.mark.parametrize("cover", [None, (9, 9), (6, 20)])
def test_any_size_is_brought_to_the_input(tmp_path: Path, size: tuple[int, int], cover: tuple[int, int] | None) -> None:
    path = write(tmp_path / "a.png", np.full((*size, 3), 77, np.uint8))
    image = read_image(path, InputEncoding(4, 6, 3, cover=cover))
    assert image.shape == (4, 6, 3)
    assert np.all(image == 77)


def test_two_channels_need_an_array(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", NOISE)
    with pytest.raises(InputError, match=r"the network reads 2: use a \.npy file"):
        read_image(path, InputEncoding(4, 6, 2))


def png_of_claimed_size(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 10)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.jpg", b"this is no image", "not an image in a known format"),
        ("empty.png", b"", "not an image in a known format"),
        ("bomb.png", png_of_claimed_size(60000, 60000), "decompression bomb"),
        ("cut.png", png_of_claimed_size(600, 600), "cannot be read as an image"),
        ("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a known format"),
    ],
)
def test_a_bad_file_is_one_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}.*{message}"):
        read_image(tmp_path / name, RGB)


def test_a_truncated_jpeg_is_one_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", np.tile(NOISE, (20, 20, 1)))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"a\.jpg cannot be read as an image: .*truncated"):
        read_image(path, RGB)


def test_every_prefix_and_every_flipped_octet_is_read_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", NOISE)
    whole = path.read_bytes()
    for index in range(len(whole)):
        for damaged in (whole[:index], whole[:index] + bytes([whole[index] ^ 0x55]) + whole[index + 1 :]):
            path.write_bytes(damaged)
            try:
                assert read_image(path, RGB).shape == (4, 6, 3)
            except InputError as error:
                assert "a.png" in str(error)


def test_missing_file_and_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.png is not a file"):
        read_image(tmp_path / "b.png", RGB)
    with pytest.raises(InputError, match=r"holds no image files \(\.bmp, "):
        load_images(tmp_path, RGB)


def test_a_folder_is_read_in_sorted_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "c/d.jpg", ".hidden.png", ".cache/e.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(write(tmp_path / "a.png", NOISE).read_bytes())
    assert list_images(tmp_path) == [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c/d.jpg"]
    assert np.array_equal(load_images(tmp_path, RGB), np.stack([NOISE] * 3))
    assert load_images(tmp_path / "a.png", RGB).shape == (1, 4, 6, 3)


@pytest.mark.parametrize(
    ("encoding", "shape", "count"),
    [
        (RGB, (5, 4, 6, 3), 5),
        (RGB, (4, 6, 3), 1),
        (GREY, (5, 4, 6, 1), 5),
        (GREY, (4, 6, 1), 1),
        (GREY, (5, 4, 6), 5),
        (GREY, (4, 6), 1),
    ],
)
def test_arrays_of_every_accepted_shape(
    tmp_path: Path, encoding: InputEncoding, shape: tuple[int, ...], count: int
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    images = load_images(tmp_path / "a.npy", encoding)
    assert images.dtype == np.uint8
    assert np.array_equal(images, pixels.reshape(count, *encoding.shape))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4, 6, 3), np.float32), "holds float32: save uint8 pixels"),
        (np.zeros((2, 4, 6, 3), np.int64), "holds int64"),
        (np.zeros((2, 6, 4, 3), np.uint8), r"expected \[n, 4, 6, 3\], the n optional"),
        (np.zeros((4, 6), np.uint8), r"holds \[4, 6\]"),
        (np.zeros((), np.uint8), r"holds \[\]"),
        (np.zeros((0, 4, 6, 3), np.uint8), r"cannot be read|holds no images"),
        (np.array([{"a": 1}], object), "cannot be read as a .npy file"),
    ],
)
def test_wrong_arrays(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        read_npy(tmp_path / "a.npy", RGB)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x10\x00{'descr': 9**9"])
def test_damaged_arrays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_npy(tmp_path / "a.npy", RGB)


def test_an_array_that_promises_more_than_it_holds(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 4, 6, 3), np.uint8))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"(9,", b"(8888888888,")[:-11])
    with pytest.raises(InputError, match=r"a\.npy"):
        read_npy(tmp_path / "a.npy", RGB)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match="is not a file"):
        read_image(tmp_path / "a.png", RGB)


def test_real_photographs() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "imagenet_samples"
    if not folder.is_dir():
        pytest.skip("the shared photographs are not here")
    path = list_images(folder)[0]
    image = read_image(path, InputEncoding(224, 224, 3, cover=(256, 256)))
    assert image.shape == (224, 224, 3)
    with Image.open(path) as photograph:
        assert min(photograph.size) == 256
        left, top = (photograph.width - 224) // 2, (photograph.height - 224) // 2
        assert np.array_equal(image, np.asarray(photograph)[top : top + 224, left : left + 224])
