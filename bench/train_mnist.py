"""Train and compile the two MNIST models that the package ships, and record how good they are.

    python bench/train_mnist.py --data DIR --out src/o3bnn/shipped [--epochs 12] [--only mnist_mlp] [--measure]

Needs the `train` extra. A model is written only if its logits on the native engine equal PyTorch's on all 10,000 test
images. Accuracy is that of the compiled artifact on the native engine over those images; figures go to
results/mnist_models.csv.
"""

import argparse
import csv
import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import o3bnn
from o3bnn.data import open_dataset
from o3bnn.model import Network
from o3bnn.train.layers import BinaryConv2d, BinaryLinear, LogitScale, PixelEncoding, Sign, clip_latent_weights
from provenance import RESULTS, provenance

IMAGE = (28, 28, 1)
BATCH = 128


def named(**modules: nn.Module) -> nn.Sequential:
    """A sequence whose names become the stages' names."""
    return nn.Sequential(OrderedDict(modules))


def mnist_mlp() -> nn.Sequential:
    """784-512-512-10."""
    return named(
        encode=PixelEncoding(),
        flatten=nn.Flatten(),
        fc1=BinaryLinear(784, 512),
        bn1=nn.BatchNorm1d(512),
        sign1=Sign(),
        fc2=BinaryLinear(512, 512),
        bn2=nn.BatchNorm1d(512),
        sign2=Sign(),
        output=BinaryLinear(512, 10),
        logits=LogitScale(10),
    )


def mnist_cnn() -> nn.Sequential:
    """32C3-32C3-P2-64C3-P2-128-10, unpadded, sign before pool."""
    return named(
        encode=PixelEncoding(),
        conv1=BinaryConv2d(1, 32, 3),
        bn1=nn.BatchNorm2d(32),
        sign1=Sign(),
        conv2=BinaryConv2d(32, 32, 3),
        bn2=nn.BatchNorm2d(32),
        sign2=Sign(),
        pool2=nn.MaxPool2d(2),
        conv3=BinaryConv2d(32, 64, 3),
        bn3=nn.BatchNorm2d(64),
        sign3=Sign(),
        pool3=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=BinaryLinear(1600, 128),
        bn4=nn.BatchNorm1d(128),
        sign4=Sign(),
        output=BinaryLinear(128, 10),
        logits=LogitScale(10),
    )


MODELS: dict[str, Callable[[], nn.Sequential]] = {"mnist_mlp": mnist_mlp, "mnist_cnn": mnist_cnn}


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by -2..2 pixels in both directions; black (0) comes in."""
    n, _, height, width = images.shape
    padded = functional.pad(images, (2, 2, 2, 2))
    down, right = (torch.randint(0, 5, (n, 1), generator=generator) for _ in range(2))
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    index = torch.arange(n)[:, None, None]
    return padded[index, 0, rows[:, :, None], columns[:, None, :]][:, None]


def train(model: nn.Sequential, images: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """Adam with a cosine schedule and clipped latent weights."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    steps = epochs * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = functional.cross_entropy(model(shifted(images[batch], generator)), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            clip_latent_weights(model)
            total += loss.item() * len(batch)
        print(
            f"  epoch {epoch + 1}/{epochs}: loss {total / len(images):.4f}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    model.eval()


def check(name: str, model: nn.Sequential, network: Network, data: str) -> None:
    """Stop where the engine's logits differ from PyTorch's on any test image."""
    images, _ = open_dataset(f"mnist:{data}", split="test").load()
    with torch.no_grad():
        wanted = torch.cat([model(part) for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(500)]).numpy()
    if not np.array_equal(o3bnn.Engine(network).run(images), wanted):
        sys.exit(f"{name}: the engine's logits differ from PyTorch's")


def measure(name: str, network: Network, data: str) -> dict[str, object]:
    """Accuracy and pruned share of a compiled model over the full test set, on the native engine."""
    images, labels = open_dataset(f"mnist:{data}", split="test").load()
    engine = o3bnn.Engine(network)
    correct = int((engine.predict(images) == labels).sum())
    pruned = {word: engine.profile(images, word=word).total("binary").pruned_share for word in (1, 64)}
    return {
        "model": name,
        "accuracy": correct / len(labels),
        "correct": correct,
        "images": len(labels),
        "pruned_b1": f"{pruned[1]:.6f}",
        "pruned_b64": f"{pruned[64]:.6f}",
        "accuracy_path": "compiled artifact, native engine, full MNIST test set",
        "seed": network.metadata["seed"],
        "epochs": network.metadata.get("epochs", "12"),
    }


def record(rows: list[dict[str, object]]) -> None:
    origin = provenance("python bench/train_mnist.py --data DIR --out src/o3bnn/shipped --measure")
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "mnist_models.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], *origin], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | origin for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the four MNIST files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the compiled models")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(MODELS), help="train this one only")
    parser.add_argument("--measure", action="store_true", help="train nothing, measure the models in --out again")
    options = parser.parse_args()
    if not options.measure:
        pixels, labels = open_dataset(f"mnist:{options.data}", split="train").load()
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        for name in [options.only] if options.only else sorted(MODELS):
            print(name, flush=True)
            torch.manual_seed(options.seed)
            model = MODELS[name]()
            train(model, images, torch.from_numpy(labels), options.epochs, options.seed)
            network = o3bnn.compile(
                model,
                image=IMAGE,
                name=name,
                class_names=tuple("0123456789"),
                metadata={
                    "data": "MNIST",
                    "trained_by": "bench/train_mnist.py",
                    "seed": str(options.seed),
                    "epochs": str(options.epochs),
                },
            )
            check(name, model, network, options.data)
            options.out.mkdir(parents=True, exist_ok=True)
            o3bnn.save(network, options.out / f"{name}.safetensors")
    rows = [measure(name, o3bnn.load(options.out / f"{name}.safetensors"), options.data) for name in sorted(MODELS)]
    record(rows)
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
