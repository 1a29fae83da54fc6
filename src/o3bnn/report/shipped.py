"""The models and the labelled test images that come with the package, so that the demo needs no download."""

import hashlib
import io
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable

import numpy as np
import numpy.typing as npt
from PIL import Image, features
from safetensors.numpy import load as load_tensors

from o3bnn.data.cifar import CLASSES as CIFAR_CLASSES
from o3bnn.errors import ArtifactError, DataError
from o3bnn.model import Network, artifact

SHEET_COLUMNS = 2  # of the arrangements tried, narrow sheets give the smallest files

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ShippedSet:
    """Test images that come with the package, and the models that the demo runs on them.

    title: the data set's name. class_names: one a label. shape: (height, width, channels) of an image.
    models: in the order in which the demo shows them. more: models that it leaves out.
    trained_for_pruning: there are two models, and the second is the first one's network trained for pruning, so that
    comparing them says what that bought.
    file: a safetensors file of `sheet`, the octets of a lossless WebP picture with the images in raster order,
    SHEET_COLUMNS side by side, and `labels`, uint8 [images]. sha256: of the file's octets, in hexadecimal.
    """

    title: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    models: tuple[str, ...]
    trained_for_pruning: bool
    file: str
    sha256: str
    more: tuple[str, ...] = ()

    def model(self, name: str) -> Network:
        """Load one of `models` or `more`; raises `ArtifactError` where the file is missing or damaged."""
        with as_file(_model_file(name)) as path:
            return artifact.load(path)

    def model_bytes(self, name: str) -> int:
        """Size of a model's file in bytes."""
        return len(_model_file(name).read_bytes())

    def samples(self) -> tuple[Images, Labels]:
        """Return the first images of the test split, in its order: uint8 [n, height, width, channels], and int64 [n].

        Raises:
            DataError: the installation lacks the file, the file is damaged, or Pillow was built without WebP.
        """
        file = _shipped(self.file)
        if not file.is_file():
            raise DataError(f"this installation has no {self.file}: reinstall o3bnn")
        octets = file.read_bytes()
        if hashlib.sha256(octets).hexdigest() != self.sha256:  # before anything in it is parsed
            raise DataError(f"{self.file} is damaged (its SHA-256 is not that of the shipped file): reinstall o3bnn")
        if not features.check("webp"):
            raise DataError(f"Pillow was built without WebP, in which {self.file} is: pip install --upgrade pillow")
        tensors = load_tensors(octets)
        labels = tensors["labels"].astype(np.int64)
        return cut_sheet(tensors["sheet"].tobytes(), len(labels), self.shape), labels


def cut_sheet(webp: bytes, count: int, shape: tuple[int, int, int]) -> Images:
    """Return the first `count` images of a WebP picture, SHEET_COLUMNS side by side: uint8 [count, *shape]."""
    height, width, channels = shape
    with Image.open(io.BytesIO(webp), formats=["WEBP"]) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))[..., :channels]
    tiles = pixels.reshape(-1, height, SHEET_COLUMNS, width, channels).swapaxes(1, 2)
    return np.ascontiguousarray(tiles.reshape(-1, *shape)[:count])


def _model_file(name: str) -> Traversable:
    file = _shipped(f"{name}.safetensors")
    if not file.is_file():
        raise ArtifactError(f"this installation has no model {name}: reinstall o3bnn")
    return file


def _shipped(name: str) -> Traversable:
    return files("o3bnn").joinpath("shipped", name)


CIFAR10 = ShippedSet(
    title="CIFAR-10",
    class_names=CIFAR_CLASSES,
    shape=(32, 32, 3),
    models=("cnv_plain", "cnv_pruned"),
    trained_for_pruning=True,
    file="cifar10_test_1000.safetensors",
    sha256="f1c7681ab609ed1c6572d7d8d4fd46858f9ccf2af16b355898e82e10c421a523",
    more=("vgg_like_half_plain", "vgg_like_half_pruned"),
)
MNIST = ShippedSet(
    title="MNIST",
    class_names=tuple("0123456789"),
    shape=(28, 28, 1),
    models=("mnist_cnn", "mnist_mlp"),
    trained_for_pruning=False,
    file="mnist_test_256.safetensors",
    sha256="37b4e82cf4dc1ea5f261e711cdd57c49ea58708c26048aba35cffdd0a8203d64",
)
DEFAULT = CIFAR10
