"""Write the test images that `o3bnn demo` classifies: the first of a test split, in its own order, with their labels.

    python bench/make_samples.py --data cifar10:DIR --count 1000 --out src/o3bnn/shipped/cifar10_test_1000.safetensors
    python bench/make_samples.py --data mnist:DIR --count 256 --out src/o3bnn/shipped/mnist_test_256.safetensors

`o3bnn.report.shipped` says what is in the file and holds its SHA-256, which this command prints. The same version of
libwebp writes the same octets on every run.
"""

import argparse
import hashlib
import io
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, features
from safetensors.numpy import save

from o3bnn.data import open_dataset
from o3bnn.report.shipped import SHEET_COLUMNS, cut_sheet

Images = npt.NDArray[np.uint8]


def sheet(images: Images) -> Images:
    """Images [n, h, w, c] in raster order, the last row filled with black: uint8 [rows * h, SHEET_COLUMNS * w, c]."""
    n, height, width, channels = images.shape
    rows = math.ceil(n / SHEET_COLUMNS)
    tiles = np.zeros((rows * SHEET_COLUMNS, height, width, channels), np.uint8)
    tiles[:n] = images
    tiles = tiles.reshape(rows, SHEET_COLUMNS, height, width, channels).swapaxes(1, 2)
    return tiles.reshape(rows * height, SHEET_COLUMNS * width, channels)


def webp(picture: Images) -> bytes:
    """A picture [height, width, 1 or 3] as lossless WebP, as small as the encoder can make it."""
    buffer = io.BytesIO()
    rgb = np.broadcast_to(picture, (*picture.shape[:2], 3))
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set, NAME:DIR")
    parser.add_argument("--count", type=int, required=True, help="images to take")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data, "test", arguments.count)
    images, labels = dataset.load()
    picture = webp(sheet(images))
    if not np.array_equal(cut_sheet(picture, len(images), dataset.shape), images):
        raise SystemExit("the sheet does not give the images back")
    name = arguments.data.partition(":")[0]
    # One metadata entry only: the library writes several in a random order.
    content = save(
        {"sheet": np.frombuffer(picture, np.uint8), "labels": labels.astype(np.uint8)},
        metadata={"source": f"{name} test split, the first {len(images)} images, in order"},
    )
    arguments.out.write_bytes(content)
    print(f"libwebp {features.version('webp')}")
    print(f"{arguments.out}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
