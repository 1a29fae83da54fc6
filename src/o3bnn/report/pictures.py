"""Pictures made of pixels, as PNG data URIs: the images, and maps of where edges were spent.

Maps and grey images are one colour with varying opacity, so that the page's style sheet gives them the colours of its
mode; colour images stay as they are.
"""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SPRITE_COLUMNS = 16

Pixels = npt.NDArray[np.uint8]
Rgb = tuple[int, int, int]


def png_uri(alpha: Pixels, ink: Rgb = (0, 0, 0)) -> str:
    """A picture in one colour, opacity uint8 [height, width], as a data URI."""
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3] = ink
    pixels[..., 3] = alpha
    if ink == (0, 0, 0):
        return _data_uri(Image.fromarray(np.ascontiguousarray(pixels[..., 2:]), "LA"))
    return _data_uri(Image.fromarray(pixels, "RGBA"))


def sprite_uri(images: Pixels) -> str:
    """Images [n, h, w, 1 or 3] side by side, as a data URI: grey ones as opacity, colour ones as they are."""
    sheet = sprite(images)
    return png_uri(sheet[..., 0]) if sheet.shape[2] == 1 else _data_uri(Image.fromarray(sheet))


def sprite(images: Pixels, columns: int = SPRITE_COLUMNS) -> Pixels:
    """Put images [n, h, w, c] side by side: uint8 [rows * h, columns * w, c], image i in row i // columns."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    filled = np.zeros((rows * columns, height, width, channels), np.uint8)
    filled[:n] = images
    tiles = filled.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return tiles.reshape(rows * height, columns * width, channels)


def opacity(values: npt.NDArray[np.float64], low: float, high: float) -> Pixels:
    """Values from low (transparent) to high (opaque) as uint8, clipped."""
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.asarray(np.rint(255 * scaled.clip(0, 1)), np.uint8)


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
