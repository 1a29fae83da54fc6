"""Image files and arrays to what a network reads: uint8 [n, height, width, channels].

An image file is decoded, turned upright by its EXIF orientation, and its transparent parts are laid on white, as a
viewer shows them. It becomes grey (ITU-R 601 luma) or RGB; of 16-bit grey images the upper 8 bits are kept, of
animations the first frame. An image of the network's own size is used as it is. Any other is scaled, aspect ratio kept,
until it just covers `input.cover` (bilinear, antialiased when shrinking), and its centre height x width is cut out.

Decoders are limited to JPEG, PNG, BMP, GIF, WebP, TIFF and PPM: Pillow knows others that start external programs.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from o3bnn.errors import InputError
from o3bnn.model import InputEncoding

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
)
NPY_MAGIC = b"\x93NUMPY"
BACKGROUND = (255, 255, 255, 255)

Images = npt.NDArray[np.uint8]


def load_images(source: Path, encoding: InputEncoding) -> Images:
    """All images of an image file, a folder of image files (in the order of `list_images`) or a `.npy` file.

    Returns uint8 [n, height, width, channels]; raises `InputError` at the first file that cannot be used.
    """
    if source.is_dir():
        return np.stack([read_image(path, encoding) for path in list_images(source)])
    if source.suffix.lower() == ".npy":
        return read_npy(source, encoding)
    return read_image(source, encoding)[None]


def named_batches(
    sources: Iterable[Path], encoding: InputEncoding, size: int = 64
) -> Iterator[tuple[list[str], Images]]:
    """Yield the images of several sources (see `load_images`), `size` or fewer at a time, and a name for each.

    An image file is named by its path, image i of a `.npy` file of several by `path[i]`. Raises `InputError` at the
    first file that cannot be used.
    """
    for source in sources:
        if not source.is_dir() and source.suffix.lower() == ".npy":
            images = read_npy(source, encoding)
            names = [f"{source}[{index}]" for index in range(len(images))] if len(images) > 1 else [str(source)]
            for start in range(0, len(images), size):
                yield names[start : start + size], images[start : start + size]
            continue
        files = list_images(source) if source.is_dir() else [source]
        for start in range(0, len(files), size):
            chunk = files[start : start + size]
            yield [str(path) for path in chunk], np.stack([read_image(path, encoding) for path in chunk])


def list_images(folder: Path) -> list[Path]:
    """Image files (by suffix) in a folder and its subfolders, sorted by path; hidden ones are left out."""
    found = find_images(folder)
    if not found:
        raise InputError(f"{folder} holds no image files ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def find_images(folder: Path) -> list[Path]:
    """As `list_images`, but an empty list where there are none."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def read_image(path: Path, encoding: InputEncoding) -> Images:
    """One image file: uint8 [height, width, channels]."""
    if not path.is_file():
        raise InputError(f"{path} is not a file: check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of oddities in files that it reads well
            with Image.open(path, formats=FORMATS) as file:
                image = ImageOps.exif_transpose(file)
                return _fit(_convert(image, encoding.channels), encoding)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image in a known format ({', '.join(FORMATS)}), or a damaged one") from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        reason = error or type(error).__name__
        raise InputError(f"{path} cannot be read as an image: {reason}: copy it again") from error


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """Grey for 1 channel, RGB for 3, without transparency."""
    if channels not in (1, 3):
        raise InputError(f"image files have 1 or 3 channels, but the network reads {channels}: use a .npy file")
    if image.mode == "F":
        raise InputError("floating-point pixels have no agreed range: convert the image to 8 bits")
    if image.mode.startswith("I"):
        image = _upper_bits(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image.convert("RGBA"))
    return image.convert("L" if channels == 1 else "RGB")


def _upper_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey image in 8 bits (Pillow's own conversion would clip)."""
    values = np.asarray(image).astype(np.int64)
    if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
        raise InputError("32-bit pixels have no agreed range: convert the image to 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _fit(image: Image.Image, encoding: InputEncoding) -> Images:
    """Scale to cover and cut the centre; only the part that is kept is computed."""
    height, width, channels = encoding.shape
    if image.size != (width, height):
        cover_height, cover_width = encoding.cover or (height, width)
        scale = max(cover_height / image.height, cover_width / image.width)
        scaled_height = max(cover_height, round(image.height * scale))
        scaled_width = max(cover_width, round(image.width * scale))
        top, left = (scaled_height - height) // 2, (scaled_width - width) // 2
        down, right = image.height / scaled_height, image.width / scaled_width
        box = (left * right, top * down, (left + width) * right, (top + height) * down)
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=_inside(box, image))
    return np.array(image, np.uint8).reshape(height, width, channels)


def _inside(box: tuple[float, float, float, float], image: Image.Image) -> tuple[float, float, float, float]:
    """The box without what rounding may have put beyond the image."""
    left, top, right, bottom = box
    return left, top, min(right, image.width), min(bottom, image.height)


def read_npy(path: Path, encoding: InputEncoding) -> Images:
    """A `.npy` array of uint8 pixels: [n, h, w, c], [h, w, c], and without the c where the network reads grey images.

    h, w and c must be the network's. Returns uint8 [n, h, w, c], mapped from the file rather than read at once.
    """
    array = _open_npy(path)
    height, width, channels = encoding.shape
    forms: Sequence[tuple[int, ...]] = [encoding.shape, (height, width)] if channels == 1 else [encoding.shape]
    if array.dtype != np.uint8:
        raise InputError(f"{path} holds {array.dtype}: save uint8 pixels (0 to 255)")
    if array.shape not in forms and array.shape[1:] not in forms:
        expected = " or ".join(str(["n", *form]) for form in forms).replace("'", "")
        raise InputError(f"{path} holds {list(array.shape)}: expected {expected}, the n optional")
    images = array.reshape(-1, *encoding.shape)
    if not len(images):
        raise InputError(f"{path} holds no images: save at least one")
    return images


def _open_npy(path: Path) -> Images:
    if not path.is_file():
        raise InputError(f"{path} is not a file: check the path")
    try:
        with path.open("rb") as stream:
            if stream.read(len(NPY_MAGIC)) != NPY_MAGIC:
                raise InputError(f"{path} is not a .npy file: write it with numpy.save")
        mapped: Images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError) as error:
        raise InputError(f"{path} cannot be read as a .npy file: {error}") from error
    return mapped
