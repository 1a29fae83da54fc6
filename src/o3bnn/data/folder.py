"""Folders of image files, one folder a class (the layout of ImageNet, Tiny-ImageNet and torchvision's ImageFolder)."""

from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from o3bnn.data.base import Batch, Dataset, Split
from o3bnn.data.images import find_images, read_image
from o3bnn.errors import DataError, InputError
from o3bnn.model import InputEncoding

SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val")}


def open_folder(root: Path, split: Split, limit: int | None, encoding: InputEncoding | None) -> Dataset:
    """Open class folders in `root`, or in its folder for the split; raises `DataError` where there are none."""
    if encoding is None:
        raise InputError("a folder data set has no size of its own: give the network's input")
    folder = _split_folder(root, split)
    classes = _subfolders(folder)
    if not classes:
        raise DataError(f"folder: {folder} holds no class folders: put the images of each class in a folder of its own")
    files = [find_images(path) for path in classes]
    if not any(files):
        raise DataError(f"folder: the {len(classes)} class folders in {folder} hold no image files")
    return ImageFolder(folder, split, encoding, classes, files, limit)


def _split_folder(root: Path, split: Split) -> Path:
    """The folder below `root` that is named after the split, or `root` itself where it is not split at all.

    A folder counts as a split only if it has subfolders, so a class may be called `train`.
    """
    present = {name for name in chain(*SPLIT_FOLDERS.values()) if _subfolders(root / name)}
    for name in SPLIT_FOLDERS[split]:
        if name in present:
            return root / name
    if present:
        wanted = " or ".join(SPLIT_FOLDERS[split])
        raise DataError(f"folder: {root} holds {', '.join(sorted(present))}, but no {wanted} for the {split} split")
    return root


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"folder: {folder} cannot be listed: {error}") from error


class ImageFolder(Dataset):
    """Class folders, in sorted order. Images take turns: the first of every class, then the second of every class ...

    So the classes stay balanced under a limit. Files are decoded when their batch is read.
    """

    def __init__(
        self,
        root: Path,
        split: Split,
        encoding: InputEncoding,
        classes: list[Path],
        files: list[list[Path]],
        limit: int | None,
    ) -> None:
        names = tuple(path.name for path in classes)
        super().__init__(f"folder:{root}", split, encoding.shape, names, sum(map(len, files)), limit)
        turns = zip_longest(*([(path, label) for path in paths] for label, paths in enumerate(files)))
        self._items = [item for item in chain.from_iterable(turns) if item is not None][: len(self)]
        self._encoding = encoding

    def _read(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self), size):
            paths, labels = zip(*self._items[start : start + size], strict=True)
            try:
                images = np.stack([read_image(path, self._encoding) for path in paths])
            except InputError as error:
                raise DataError(str(error)) from error
            yield Batch(images, np.array(labels, np.int64))
