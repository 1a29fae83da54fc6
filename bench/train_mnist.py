"""Train and compile the two MNIST models that the package ships, and record how good they are.

    python bench/train_mnist.py --data DIR --out src/o3bnn/shipped [--epochs 12] [--only mnist_mlp]

Needs the `train` extra. Accuracy is that of the compiled artifact on the native engine over all 10,000 test images, and
must equal PyTorch's to the last image, or nothing is written. Figures go to results/mnist_models.csv.
"""

import argparse
import csv
import math
import platform
import subprocess
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

RESULTS = Path(__file__).parent.parent / "results" / "mnist_models.csv"
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


def evaluate(name: str, model: nn.Sequential, network: Network, data: str) -> dict[str, object]:
    """Accuracy by both paths and the pruned share, over the full test set."""
    images, labels = open_dataset(f"mnist:{data}", split="test").load()
    engine = o3bnn.Engine(network)
    with torch.no_grad():
        wanted = torch.cat([model(part) for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(500)]).numpy()
    if not np.array_equal(engine.run(images), wanted):
        sys.exit(f"{name}: the engine's logits differ from PyTorch's")
    correct = int((engine.predict(images) == labels).sum())
    pruned = {word: engine.profile(images, word=word).total("binary").pruned_share for word in (1, 64)}
    return {
        "model": name,
        "accuracy": correct / len(labels),
        "correct": correct,
        "images": len(labels),
        "pruned_b1": round(pruned[1], 6),
        "pruned_b64": round(pruned[64], 6),
    }


def record(rows: list[dict[str, object]], options: argparse.Namespace) -> None:
    """Write the rows together with what is needed to get them again."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    common = {
        "path": "compiled artifact, native engine, full MNIST test set",
        "epochs": options.epochs,
        "seed": options.seed,
        "commit": commit.stdout.strip(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": "python bench/train_mnist.py",
    }
    RESULTS.parent.mkdir(exist_ok=True)
    kept = []
    if RESULTS.exists():
        with RESULTS.open(newline="") as stream:
            kept = [row for row in csv.DictReader(stream) if row["model"] not in {r["model"] for r in rows}]
    with RESULTS.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], *common], lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *({**row, **common} for row in rows)], key=lambda row: str(row["model"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the four MNIST files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the compiled models")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(MODELS))
    options = parser.parse_args()
    pixels, labels = open_dataset(f"mnist:{options.data}", split="train").load()
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    rows = []
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
            metadata={"data": "MNIST", "trained_by": "bench/train_mnist.py", "seed": str(options.seed)},
        )
        rows.append(evaluate(name, model, network, options.data))
        options.out.mkdir(parents=True, exist_ok=True)
        o3bnn.save(network, options.out / f"{name}.safetensors")
        record(rows[-1:], options)
        print("  " + ", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)


if __name__ == "__main__":
    main()
