"""Write the sample that `o3bnn demo` classifies: the first 256 images of the MNIST test set and their labels.

    python bench/make_samples.py --data FOLDER_OF_MNIST --out src/o3bnn/shipped/mnist_test_256.safetensors

The images are the first ones, in the set's own order: nobody chose them. The file holds uint8 `images`
[256, 28, 28] and uint8 `labels` [256], no pickle, and is the same bytes on every run.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from o3bnn.data.mnist import open_mnist

COUNT = 256


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the MNIST sample that o3bnn demo classifies.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the official MNIST files")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    arguments = parser.parse_args()
    images, labels = next(iter(open_mnist(arguments.data, "test", COUNT).batches(COUNT)))
    # One metadata entry only: the library writes several in a random order.
    content = save(
        {"images": np.ascontiguousarray(images[..., 0]), "labels": labels.astype(np.uint8)},
        metadata={"source": f"MNIST test set (LeCun, Cortes, Burges), first {COUNT} images, in order"},
    )
    arguments.out.write_bytes(content)
    print(f"{arguments.out}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
