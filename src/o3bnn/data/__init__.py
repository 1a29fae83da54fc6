"""Images and data sets as uint8 [n, height, width, channels] arrays; needs NumPy and Pillow, never torch."""

from o3bnn.data.base import Batch, Dataset, Split
from o3bnn.data.datasets import DATASETS, open_dataset
from o3bnn.data.images import IMAGE_SUFFIXES, list_images, load_images, named_batches, read_image, read_npy

__all__ = [
    "DATASETS",
    "IMAGE_SUFFIXES",
    "Batch",
    "Dataset",
    "Split",
    "list_images",
    "load_images",
    "named_batches",
    "open_dataset",
    "read_image",
    "read_npy",
]
