"""Pictures made of pixels, as PNG data URIs: the digits, and maps of where edges were spent.

Both are one colour with varying opacity, so that the page's style sheet gives them the colours of its mode.
"""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SPRITE_COLUMNS = 16

Rgb = tuple[int, int, int]


def png_uri(alpha: npt.NDArray[np.uint8], ink: Rgb = (0, 0, 0)) -> str:
    """A picture in one colour, opacity uint8 [height, width], as a data URI."""
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3] = ink
    pixels[..., 3] = alpha
    if ink == (0, 0, 0):
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 2:]), "LA")
    else:
        image = Image.fromarray(pixels, "RGBA")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def sprite(images: npt.NDArray[np.uint8], columns: int = SPRITE_COLUMNS) -> npt.NDArray[np.uint8]:
    """Put images [n, h, w] side by side: uint8 [rows * h, columns * w], image i in row i // columns."""
    n, height, width = images.shape
    rows = -(-n // columns)
    filled = np.zeros((rows * columns, height, width), np.uint8)
    filled[:n] = images
    tiles = filled.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)
    return tiles.reshape(rows * height, columns * width)


def opacity(values: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Values from low (transparent) to high (opaque) as uint8, clipped."""
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.asarray(np.rint(255 * scaled.clip(0, 1)), np.uint8)
