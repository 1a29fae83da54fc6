"""Compare the pruning regularizers on small problems: accuracy against the exact share of edges evaluated.

    python bench/regularizers.py --mnist DIR --cifar DIR [--only mlp] [--threads 1]

Needs the `train` extra. A problem trains its network from scratch, plain and with each set of terms; where it
fine-tunes, it also goes on from the plain network, for one epoch more. Seeds, images and schedules are the same in all
runs of a kind. Accuracy is that of the compiled network on the native engine over the whole test set; shares are counts
over its first 500 images. Rows replace those of the same problem in results/regularizers.csv.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import o3bnn
from o3bnn.data import open_dataset
from o3bnn.train import build, clip_latent_weights
from o3bnn.train.regularizers import Form, PruningRegularizer
from provenance import RESULTS, provenance

COUNTED = 500
PATH = RESULTS / "regularizers.csv"


@dataclass(frozen=True)
class Terms:
    """Options of the regularizer; its weights rise linearly over the first third of the steps."""

    form: Form = "joint"
    pool: float = 0.0
    threshold: float = 0.0
    through_weights: float = 0.0
    floor: float = 0.0


@dataclass(frozen=True)
class Problem:
    """A network, its data, and the terms to train it with; the first are always none."""

    network: str
    options: dict[str, float]
    data: str
    epochs: int
    batch: int
    scratch: tuple[Terms, ...]
    fine_tuned: tuple[Terms, ...] = ()


PLAIN = Terms()
PROBLEMS = {
    "mlp": Problem(
        "mlp",
        {},
        data="mnist",
        epochs=3,
        batch=128,
        scratch=(
            PLAIN,
            Terms("walk", threshold=0.3),
            Terms("walk", threshold=1.0),
            Terms("walk", threshold=1.0, through_weights=1.0),
            Terms("walk", threshold=3.0, through_weights=1.0),
        ),
    ),
    "cnv": Problem(
        "cnv",
        {"width": 0.25},
        data="cifar10",
        epochs=3,
        batch=100,
        scratch=(
            PLAIN,
            Terms("joint", threshold=0.3),
            Terms("joint", threshold=1.0),
            Terms("joint", threshold=1.0, floor=0.4),
            Terms("joint", threshold=1.0, through_weights=1.0),
            Terms("joint", threshold=0.3, through_weights=0.1),
            Terms("walk", pool=0.3, threshold=0.3),
        ),
        fine_tuned=(
            PLAIN,
            Terms("joint", threshold=1.0),
            Terms("joint", threshold=1.0, through_weights=1.0),
        ),
    ),
}


class Data:
    """Training and test images of a problem."""

    def __init__(self, spec: str) -> None:
        pixels, labels = open_dataset(spec, split="train").load()
        self.images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(labels)
        self.test_images, self.test_labels = open_dataset(spec, split="test").load()

    def batches(self, size: int, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`count` shuffled batches; color images are mirrored and moved by up to 4 pixels."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            for index in torch.randperm(len(self.images), generator=generator).split(size):  # type: ignore[no-untyped-call]
                if count == 0:
                    return
                count -= 1
                images = self.images[index]
                yield (_augmented(images, generator) if images.shape[1] == 3 else images).float(), self.labels[index]


def _augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    n, channels, height, width = images.shape
    mirrored = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    padded = functional.pad(torch.where(mirrored, images.flip(3), images), (4, 4, 4, 4), value=128)
    rows, columns = (torch.randint(0, 9, (n, 1), generator=generator) + torch.arange(side) for side in (height, width))
    each, channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[each, channel, rows[:, None, :, None], columns[:, None, None, :]]


def train(model: nn.Sequential, data: Data, problem: Problem, terms: Terms, epochs: int, lr: float, seed: int) -> float:
    """Adam with a cosine schedule, bfloat16 for convolutions; returns the seconds of a step."""
    steps = epochs * len(data.images) // problem.batch
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = time.perf_counter()
    model.train()
    with PruningRegularizer(
        model, form=terms.form, through_weights=terms.through_weights, floor=terms.floor
    ) as regularizer:
        for step, (images, labels) in enumerate(data.batches(problem.batch, steps, seed)):
            with torch.autocast("cpu", torch.bfloat16, enabled=problem.network == "cnv"):
                loss = functional.cross_entropy(model(images).float(), labels)
            if terms.pool or terms.threshold:
                ramp = min(1.0, 3 * step / steps)
                regularizer.pool, regularizer.threshold = terms.pool * ramp, terms.threshold * ramp
                loss = loss + regularizer()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            clip_latent_weights(model)
    return (time.perf_counter() - start) / steps


def measure(model: nn.Sequential, data: Data) -> dict[str, object]:
    """Accuracy of the compiled network, and its exact counts."""
    network = o3bnn.compile(model, image=data.test_images.shape[1:])
    engine = o3bnn.Engine(network)
    found: dict[str, object] = {"accuracy": float(np.mean(engine.predict(data.test_images) == data.test_labels))}
    for word in (1, 64):
        edges = engine.profile(data.test_images[:COUNTED], word=word).total("binary")
        found[f"evaluated_b{word}"] = round(edges.evaluated / edges.dense, 4)
        if word == 1:
            for cause in ("constant", "threshold_high", "threshold_low", "pooling"):
                found[f"{cause}_b1"] = round(getattr(edges, cause) / edges.dense, 4)
    return found


def run(name: str, problem: Problem, data: Data, seed: int) -> Iterator[dict[str, object]]:
    """One row a training, those from scratch first."""
    plain: dict[str, Tensor] = {}
    for terms in problem.scratch:
        torch.manual_seed(seed)
        model = build(problem.network, **problem.options)
        seconds = train(model, data, problem, terms, problem.epochs, 3e-3, seed)
        if terms == PLAIN:
            plain = {key: value.clone() for key, value in model.state_dict().items()}
        yield _row(name, problem, "scratch", terms, seed, seconds) | measure(model, data)
    for terms in problem.fine_tuned:
        model = build(problem.network, **problem.options)
        model.load_state_dict(plain)
        seconds = train(model, data, problem, terms, 1, 1e-3, seed + 1)
        yield _row(name, problem, "fine-tuned", terms, seed, seconds) | measure(model, data)


def _row(name: str, problem: Problem, start: str, terms: Terms, seed: int, seconds: float) -> dict[str, object]:
    epochs = problem.epochs + (start == "fine-tuned")
    options = ", ".join(f"{key} {value}" for key, value in problem.options.items())
    described = {"problem": name, "network": problem.network, "options": options, "start": start, "epochs": epochs}
    return described | asdict(terms) | {"seed": seed, "step_ms": round(1e3 * seconds, 1)}


def record(row: dict[str, object], replace: bool) -> None:
    """Add a row to the file; the first one of a problem replaces that problem's old rows."""
    row = row | provenance("python bench/regularizers.py --mnist DIR --cifar DIR") | {"torch": torch.__version__}
    rows: list[dict[str, object]] = []
    if PATH.exists():
        with PATH.open(newline="") as stream:
            rows = [old for old in csv.DictReader(stream) if not (replace and old["problem"] == row["problem"])]
    RESULTS.mkdir(exist_ok=True)
    with PATH.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True, help="folder with the four MNIST files")
    parser.add_argument("--cifar", required=True, help="folder of CIFAR-10, or its parent")
    parser.add_argument("--only", choices=sorted(PROBLEMS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, problem in PROBLEMS.items():
        if options.only in (None, name):
            data = Data(f"{problem.data}:{options.mnist if problem.data == 'mnist' else options.cifar}")
            for number, row in enumerate(run(name, problem, data, options.seed)):
                record(row, replace=number == 0)
                print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
