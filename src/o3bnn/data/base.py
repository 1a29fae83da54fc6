"""What every data set offers: labelled images in a fixed order, read batch by batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from o3bnn.errors import DataError, InputError

Split = Literal["train", "test"]
Shape = tuple[int, int, int]


class Batch(NamedTuple):
    """Some consecutive images of a data set: uint8 [n, height, width, channels] and int64 [n]."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


class Dataset(ABC):
    """Labelled images in a fixed order.

    name, split: what was opened. shape: (height, width, channels) of every image. class_names: one a label.
    len() is the number of images, a limit included.
    """

    def __init__(
        self, name: str, split: Split, shape: Shape, class_names: tuple[str, ...], size: int, limit: int | None = None
    ) -> None:
        if size < 1:
            raise DataError(f"{name}: the {split} split holds no images")
        self.name = name
        self.split: Split = split
        self.shape = shape
        self.class_names = class_names
        self._length = size if limit is None else min(limit, size)

    def __len__(self) -> int:
        return self._length

    def batches(self, size: int = 256) -> Iterator[Batch]:
        """Yield all images in order, `size` at a time (the last batch may be smaller).

        Raises `DataError` where a file turns out to be damaged.
        """
        if size < 1:
            raise InputError(f"a batch of {size} images is not possible: use 1 or more")
        return self._read(size)

    def load(self) -> Batch:
        """Everything in memory at once."""
        images, labels = zip(*self.batches(4096), strict=True)
        return Batch(np.concatenate(images), np.concatenate(labels))

    @abstractmethod
    def _read(self, size: int) -> Iterator[Batch]: ...


def check_labels(labels: npt.NDArray[np.int64], classes: int, where: object) -> None:
    """Raise `DataError` unless every label is 0..classes-1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(f"{where}: label {labels[wrong[0]]} is outside 0..{classes - 1}: the file is damaged")
