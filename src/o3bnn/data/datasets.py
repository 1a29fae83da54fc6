"""Open a data set by name: `cifar10:DIR`, `mnist:DIR` or `folder:DIR`."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from o3bnn.data.base import Dataset, Split
from o3bnn.data.cifar import open_cifar10
from o3bnn.data.folder import open_folder
from o3bnn.data.mnist import open_mnist
from o3bnn.errors import DataError, InputError
from o3bnn.model import InputEncoding

DATASETS = MappingProxyType(
    {
        "cifar10": "the official binary or python folder of CIFAR-10, or its parent",
        "mnist": "the four IDX files of MNIST, gzipped or not",
        "folder": "one folder of image files a class, below test, val or train where these exist",
    }
)
SPLITS: tuple[Split, ...] = ("train", "test")


def open_dataset(
    spec: str,
    split: Split = "test",
    limit: int | None = None,
    input: InputEncoding | None = None,  # noqa: A002
) -> Dataset:
    """Open the data set `NAME:DIR`; files are checked now and read later, batch by batch.

    limit: use the first `limit` images only. input: the network's input. `folder` needs it, as its images are scaled
    and cut to it (see `images.py`); the others have a fixed size and must fit.

    Raises `DataError` where files are missing, damaged or of another layout or size, `InputError` on a bad limit.
    """
    name, colon, directory = spec.partition(":")
    if not colon or not directory or name not in DATASETS:
        forms = ", ".join(f"{known}:DIR" for known in DATASETS)
        raise DataError(f"{spec!r} is not a data set: use one of {forms}")
    if split not in SPLITS:
        raise DataError(f"{split!r} is not a split: use one of {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} images is not possible: use 1 or more")
    root = _home(directory)
    if not root.is_dir():
        raise DataError(f"{spec}: {root} is not a folder: {name}:DIR needs {DATASETS[name]}")
    if name == "folder":
        return open_folder(root, split, limit, input)
    openers: dict[str, Callable[[Path, Split, int | None], Dataset]] = {"cifar10": open_cifar10, "mnist": open_mnist}
    dataset = openers[name](root, split, limit)
    if input is not None and input.shape != dataset.shape:
        raise DataError(
            f"{spec}: images are {_size(dataset.shape)}, but the network reads {_size(input.shape)}: use a data set of "
            "that size, or folder:DIR, whose images are scaled"
        )
    return dataset


def _home(directory: str) -> Path:
    """A shell leaves the ~ in NAME:~/DIR alone, so it is expanded here."""
    return Path(directory).expanduser() if directory.startswith("~/") else Path(directory)


def _size(shape: tuple[int, int, int]) -> str:
    return " x ".join(str(side) for side in shape)
