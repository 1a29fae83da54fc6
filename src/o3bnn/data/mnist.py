"""MNIST in its IDX files (Fashion-MNIST and KMNIST have the same layout).

An IDX file is: two zero bytes, the element type (8: unsigned byte), the number of dimensions, each dimension as a
big-endian 32-bit integer, and the elements in C order. Source: http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from o3bnn.data.base import Batch, Dataset, Split, check_labels
from o3bnn.errors import DataError

SIDE = 28
CLASSES = tuple(str(digit) for digit in range(10))
MAX_ITEMS = 1 << 21
UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"
SUBFOLDERS = ("", "MNIST/raw", "raw", "mnist")


def open_mnist(root: Path, split: Split, limit: int | None = None) -> Dataset:
    """Open MNIST in `root`; raises `DataError` where its files are missing, damaged or do not belong together."""
    prefix = "train" if split == "train" else "t10k"
    images = IdxFile(_find(root, prefix, "images", 3), (SIDE, SIDE))
    labels = IdxFile(_find(root, prefix, "labels", 1), ())
    if images.count != labels.count:
        raise DataError(f"{images.path} holds {images.count} images, but {labels.path} holds {labels.count} labels")
    return Mnist(root, split, images, labels, limit)


def _find(root: Path, prefix: str, content: str, dimensions: int) -> Path:
    official = f"{prefix}-{content}-idx{dimensions}-ubyte"
    names = (official, official.replace("-idx", ".idx"))
    for folder in SUBFOLDERS:
        for suffix in ("", ".gz"):
            for name in names:
                path = root / folder / (name + suffix)
                if path.is_file():
                    return path
    raise DataError(f"mnist: {root} has no {official} (gzipped as .gz or not): put the four files of MNIST there")


class Mnist(Dataset):
    """MNIST digits, 28 x 28 x 1; read in order from the (compressed) file, never more than asked for."""

    def __init__(self, root: Path, split: Split, images: "IdxFile", labels: "IdxFile", limit: int | None) -> None:
        super().__init__(f"mnist:{root}", split, (SIDE, SIDE, 1), CLASSES, images.count, limit)
        self._images, self._labels = images, labels

    def _read(self, size: int) -> Iterator[Batch]:
        pixels = self._images.items(len(self), size)
        labels = self._labels.items(len(self), size)
        for image_bytes, label_bytes in zip(pixels, labels, strict=True):
            values = label_bytes.astype(np.int64)
            check_labels(values, len(CLASSES), self._labels.path)
            yield Batch(image_bytes[..., None], values)


class IdxFile:
    """An IDX file of unsigned bytes, plain or gzipped (told apart by its first bytes, not by its name).

    item_shape: the shape that each item must have. count: the number of items that the header promises; nothing beyond
    them is ever decompressed, so the header bounds what a gzip bomb can do, and MAX_ITEMS bounds the header.
    """

    def __init__(self, path: Path, item_shape: tuple[int, ...]) -> None:
        self.path, self.item_shape = path, item_shape
        with self._open() as stream:
            header = stream.read(4)
            if header != bytes((0, 0, UNSIGNED_BYTE, 1 + len(item_shape))):
                raise DataError(f"{path} is not an IDX file of unsigned bytes with {1 + len(item_shape)} dimensions")
            dimensions = self._exactly(stream, 4 * (1 + len(item_shape)))
            self.count, *shape = struct.unpack(f">{1 + len(item_shape)}I", dimensions)
        if tuple(shape) != item_shape:
            raise DataError(f"{path} holds items of {shape}, not of {list(item_shape)}")
        if self.count > MAX_ITEMS:
            raise DataError(f"{path} promises {self.count} items, more than {MAX_ITEMS}: the file is damaged")

    @property
    def _header_size(self) -> int:
        return 4 * (2 + len(self.item_shape))

    def items(self, count: int, size: int) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the first `count` items, `size` at a time: uint8 [n, *item_shape]."""
        item_bytes = int(np.prod(self.item_shape, dtype=np.int64))
        with self._open() as stream:
            self._exactly(stream, self._header_size)
            for start in range(0, count, size):
                wanted = min(size, count - start)
                content = self._exactly(stream, wanted * item_bytes)
                if start + wanted == self.count and stream.read(1):  # reaching the end also checks gzip's CRC
                    raise DataError(f"{self.path} goes on after the {self.count} items that its header promises")
                yield np.frombuffer(content, np.uint8).reshape(wanted, *self.item_shape)

    def _exactly(self, stream: BinaryIO, size: int) -> bytes:
        content = stream.read(size)
        if len(content) != size:
            raise DataError(f"{self.path} ends too early: it is damaged or not completely downloaded")
        return content

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            with self.path.open("rb") as plain:
                zipped = plain.read(2) == GZIP_MAGIC
                plain.seek(0)
                if zipped:
                    with gzip.open(plain) as stream:
                        yield cast("BinaryIO", stream)
                else:
                    yield plain
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error
