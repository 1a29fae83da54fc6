"""Compare the pruning regularizers on small problems: accuracy against the exact share of edges evaluated.

    python bench/regularizers.py --mnist DIR --cifar DIR [--only mlp] [--threads 1]

Needs the `train` extra. A problem trains its network from scratch, plain and with each set of terms, with the same
seed, images and schedule. Accuracy is that of the compiled network on the native engine over the whole test set; shares
are counts over its first 500 images. `--only step` measures what the terms add to a training step. Rows replace those
of the same problem in results/regularizers.csv.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median

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


@dataclass(frozen=True)
class Problem:
    """A network, its data, and the terms that it is trained with, one after the other."""

    network: str
    options: dict[str, float]
    data: str
    epochs: int
    batch: int
    terms: tuple[Terms, ...]


PLAIN = Terms()
PROBLEMS = {
    "mlp": Problem(
        "mlp",
        {},
        data="mnist",
        epochs=3,
        batch=128,
        terms=(
            PLAIN,
            Terms("joint", threshold=1.0),
            Terms("joint", threshold=1.0, through_weights=1.0),
        ),
    ),
    "cnv": Problem(
        "cnv",
        {"width": 0.25},
        data="cifar10",
        epochs=3,
        batch=100,
        terms=(
            PLAIN,
            Terms("joint", threshold=0.3),
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


def train(model: nn.Sequential, data: Data, problem: Problem, terms: Terms, lr: float, seed: int) -> None:
    """Adam with a cosine schedule, bfloat16 for convolutions."""
    steps = problem.epochs * len(data.images) // problem.batch
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    with PruningRegularizer(model, form=terms.form, through_weights=terms.through_weights) as regularizer:
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
    """One row a training."""
    options = ", ".join(f"{key} {value}" for key, value in problem.options.items())
    described = {"problem": name, "network": problem.network, "options": options, "epochs": problem.epochs}
    for terms in problem.terms:
        torch.manual_seed(seed)
        model = build(problem.network, **problem.options)
        train(model, data, problem, terms, 3e-3, seed)
        yield described | asdict(terms) | {"seed": seed} | measure(model, data)


def step_ratio(precision: str, rounds: int = 12) -> dict[str, object]:
    """How much longer a training step of `cnv` takes with both terms: medians of interleaved steps of 128 images."""
    torch.manual_seed(0)
    model = build("cnv").train()
    images, labels = torch.randint(0, 256, (128, 3, 32, 32)).float(), torch.randint(0, 10, (128,))
    optimizer = torch.optim.Adam(model.parameters())

    def step(regularizer: PruningRegularizer | None) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = functional.cross_entropy(model(images).float(), labels)
        if regularizer is not None:
            loss = loss + regularizer()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return time.perf_counter() - start

    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        times[0].append(step(None))
        with PruningRegularizer(model, pool=1.0, threshold=1.0) as regularizer:
            times[1].append(step(regularizer))
    described = {"problem": "step", "network": "cnv", "options": f"{precision}, batch 128", "seed": 0}
    ratio = {"step_ratio": round(median(times[1]) / median(times[0]), 3)}
    return described | asdict(Terms(pool=1.0, threshold=1.0)) | ratio


def record(row: dict[str, object], replace: bool) -> None:
    """Add a row to the file; the first one of a problem replaces that problem's old rows."""
    row = row | provenance("python bench/regularizers.py --mnist DIR --cifar DIR") | {"torch": torch.__version__}
    rows: list[dict[str, object]] = []
    if PATH.exists():
        with PATH.open(newline="") as stream:
            rows = [old for old in csv.DictReader(stream) if not (replace and old["problem"] == row["problem"])]
    RESULTS.mkdir(exist_ok=True)
    names = list(dict.fromkeys(name for one in [*rows, row] for name in one))
    with PATH.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True, help="folder with the four MNIST files")
    parser.add_argument("--cifar", required=True, help="folder of CIFAR-10, or its parent")
    parser.add_argument("--only", choices=[*PROBLEMS, "step"], help="one problem, or the time of a step")
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
    if options.only in (None, "step"):
        for number, precision in enumerate(("float32", "bf16")):
            record(step_ratio(precision), replace=number == 0)


if __name__ == "__main__":
    main()
