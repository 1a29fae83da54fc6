"""The models and the sample of MNIST that come with the package, so that the demo needs no download."""

from importlib.resources import as_file, files
from importlib.resources.abc import Traversable

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from o3bnn.errors import ArtifactError, DataError
from o3bnn.model import Network, artifact

MODELS = ("mnist_cnn", "mnist_mlp")  # as the demo shows them
SAMPLES = "mnist_test_256.safetensors"

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def shipped_model(name: str) -> Network:
    """Load one of `MODELS`; raises `ArtifactError` where the installation lacks it or the file is damaged."""
    with as_file(_model_file(name)) as path:
        return artifact.load(path)


def shipped_model_bytes(name: str) -> int:
    """Size of a shipped model's file in bytes."""
    return len(_model_file(name).read_bytes())


def shipped_samples() -> tuple[Images, Labels]:
    """Return the first 256 images of the MNIST test set, in its order: uint8 [256, 28, 28, 1], and int64 labels [256].

    Raises:
        DataError: the installation lacks the file, or it is damaged.
    """
    file = _shipped(SAMPLES)
    if not file.is_file():
        raise DataError(f"this installation has no {SAMPLES}: reinstall o3bnn")
    try:
        tensors = load_tensors(file.read_bytes())
        images, labels = tensors["images"], tensors["labels"]
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{SAMPLES} is damaged ({error}): reinstall o3bnn") from error
    if images.dtype != np.uint8 or images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{SAMPLES} is damaged (images {images.dtype} {images.shape}): reinstall o3bnn")
    return images[..., None], labels.astype(np.int64)


def _model_file(name: str) -> Traversable:
    if name not in MODELS:
        raise ArtifactError(f"{name!r} is not a shipped model: use one of {', '.join(MODELS)}")
    file = _shipped(f"{name}.safetensors")
    if not file.is_file():
        raise ArtifactError(f"this installation has no model {name}: reinstall o3bnn")
    return file


def _shipped(name: str) -> Traversable:
    return files("o3bnn").joinpath("shipped", name)
