"""CIFAR-10 in its two official layouts. Source: https://www.cs.toronto.edu/~kriz/cifar.html

Binary (`cifar-10-batches-bin`): records of one label byte and 3 x 32 x 32 bytes, red plane first.
Python (`cifar-10-batches-py`): pickled dicts with `labels`, a list, and `data`, uint8 [n, 3072] of the same planes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from o3bnn.data.base import Batch, Dataset, Split, check_labels
from o3bnn.data.pickles import PlainArray, read_plain_pickle
from o3bnn.errors import DataError

SHAPE = (32, 32, 3)
PIXELS = 32 * 32 * 3
RECORD = 1 + PIXELS
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STEMS: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{index}" for index in range(1, 6)),
    "test": ("test_batch",),
}
LAYOUTS = (("cifar-10-batches-bin", ".bin"), ("cifar-10-batches-py", ""))


def open_cifar10(root: Path, split: Split, limit: int | None = None) -> Dataset:
    """Open CIFAR-10 in `root`; raises `DataError` where files are missing, damaged or of another layout."""
    return Cifar10(root, split, _parts(root, split, limit), limit)


def _parts(root: Path, split: Split, limit: int | None) -> "list[_Part]":
    """The split's files in order. A pickle can only be read whole, so no more of them than the limit needs."""
    folder, suffix = _find(root)
    paths = [folder / (stem + suffix) for stem in STEMS[split]]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"cifar10: {folder} lacks {', '.join(missing)}: unpack the official archive again")
    parts: list[_Part] = []
    for path in paths:
        if limit is None or sum(part.count for part in parts) < limit:
            parts.append(_BinaryPart(path) if suffix else _PicklePart(path))
    return parts


def _find(root: Path) -> tuple[Path, str]:
    """The folder that holds the batches, and the suffix of its files."""
    for name, suffix in LAYOUTS:
        for folder in (root / name, root):
            if any((folder / (stem + suffix)).is_file() for stems in STEMS.values() for stem in stems):
                return folder, suffix
    raise DataError(
        f"cifar10: {root} holds neither cifar-10-batches-bin (data_batch_1.bin ... test_batch.bin) "
        f"nor cifar-10-batches-py (data_batch_1 ... test_batch)"
    )


class Cifar10(Dataset):
    """CIFAR-10, 32 x 32 x 3."""

    def __init__(self, root: Path, split: Split, parts: "list[_Part]", limit: int | None) -> None:
        super().__init__(f"cifar10:{root}", split, SHAPE, CLASSES, sum(part.count for part in parts), limit)
        self._parts = parts

    def _read(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self), size):
            pieces = list(self._pieces(start, min(start + size, len(self))))
            planes = np.concatenate([piece[0] for piece in pieces])
            labels = np.concatenate([piece[1] for piece in pieces])
            images = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            yield Batch(np.ascontiguousarray(images), labels)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
        """What each file contributes to images start..stop-1: planes and labels."""
        first = 0
        for part in self._parts:
            low, high = max(start - first, 0), min(stop - first, part.count)
            if low < high:
                planes, labels = part.read(low, high)
                check_labels(labels, len(CLASSES), part.path)
                yield planes, labels
            first += part.count


class _Part(ABC):
    """One file of a split, of `count` images."""

    path: Path
    count: int

    @abstractmethod
    def read(self, start: int, stop: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Planes, uint8 [n, 3072], and labels, int64 [n], of images start..stop-1."""


class _BinaryPart(_Part):
    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        if size == 0 or size % RECORD:
            raise DataError(f"{path} has {size} bytes, not a multiple of {RECORD}: it is damaged, download it again")
        self.path, self.count = path, size // RECORD

    def read(self, start: int, stop: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        try:
            content = np.fromfile(self.path, np.uint8, (stop - start) * RECORD, offset=start * RECORD)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error
        if content.size != (stop - start) * RECORD:
            raise DataError(f"{self.path} became shorter while it was read")
        records = content.reshape(-1, RECORD)
        return records[:, 1:], records[:, 0].astype(np.int64)


class _PicklePart(_Part):
    def __init__(self, path: Path) -> None:
        content = read_plain_pickle(path)
        data, labels = _entry(content, "data"), _entry(content, "labels")
        if not isinstance(data, PlainArray) or data.kind != "u1" or data.shape[1:] != (PIXELS,):
            raise DataError(f"{path}: `data` is not a uint8 array [n, {PIXELS}]: this is not a batch of CIFAR-10")
        if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 256 for label in labels):
            raise DataError(f"{path}: `labels` is not a list of small integers: this is not a batch of CIFAR-10")
        if len(labels) != data.shape[0]:
            raise DataError(f"{path}: {data.shape[0]} images, but {len(labels)} labels")
        self.path, self.count = path, len(labels)
        self._planes, self._labels = data.to_numpy(), np.array(labels, np.int64)

    def read(self, start: int, stop: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        return self._planes[start:stop], self._labels[start:stop]


def _entry(content: object, key: str) -> object:
    """A dict's value by a key that Python 2 wrote as bytes and Python 3 may have written as text."""
    if not isinstance(content, dict):
        return None
    return content.get(key.encode(), content.get(key))
