"""Compare forms of the pruning terms on small problems: accuracy against the exact share of edges evaluated.

    python bench/regularizers.py --mnist DIR --cifar DIR [--only mlp] [--threads 1]

Needs the `train` extra. A problem trains its network from scratch, or tunes one that was trained plain, without terms
and with each set of them, on the same images in the same order. Accuracy is that of the compiled network on the native
engine over the whole test set; shares are counts over its first 500 images. `visited_by_8`: share of the pooled
neurons that are evaluated where groups of 8 neighbouring channels leave a window together. `--only step` measures what
the terms add to a training step. Rows replace those of the same problem in results/regularizers.csv, and
docs/regularizers.svg is drawn from all of it.
"""

import argparse
import copy
import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import nn
from torch.nn import functional

import o3bnn
from o3bnn.data import open_dataset
from o3bnn.train import build, clip_latent_weights
from o3bnn.train.batches import TrainingBatches
from o3bnn.train.regularizers import Estimate, PruningRegularizer
from o3bnn.train.settings import TrainSettings
from provenance import RESULTS, provenance
from regularizer_forms import LANES, agreement, lanes, margin

COUNTED = 500
PATH = RESULTS / "regularizers.csv"
PLOT = Path(__file__).parent.parent / "docs" / "regularizers.svg"
FORMS: dict[str, Estimate] = {"margin": margin, "agreement": agreement, "lanes": lanes}


@dataclass(frozen=True)
class Terms:
    """Options of the regularizer; its weights rise linearly over the first third of the steps."""

    form: str = "joint"
    pool: float = 0.0
    threshold: float = 0.0
    through_weights: float = 0.0

    def regularizer(self, model: nn.Sequential) -> PruningRegularizer:
        form = FORMS.get(self.form, self.form)
        return PruningRegularizer(model, form=form, through_weights=self.through_weights)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Problem:
    """A network, its data, and the terms that it is trained with, one after the other.

    tuned: what comes after a training without terms that all runs share; None: every run starts from scratch.
    """

    network: str
    options: dict[str, float]
    data: str
    settings: TrainSettings
    terms: tuple[Terms, ...]
    tuned: TrainSettings | None = None


SCRATCH = TrainSettings(epochs=3, batch=100, shift=3, flip=True)
PROBLEMS = {
    "mlp": Problem(
        "mlp",
        {},
        data="mnist",
        settings=TrainSettings(epochs=6, batch=125),
        terms=(
            Terms(),
            Terms("joint", threshold=3.0),
            Terms("joint", threshold=3.0, through_weights=0.3),
            Terms("joint", threshold=1.0, through_weights=1.0),
            Terms("joint", threshold=3.0, through_weights=1.0),
            Terms("margin", threshold=3.0, through_weights=1.0),
        ),
    ),
    "cnv": Problem(
        "cnv",
        {"width": 0.25},
        data="cifar10",
        settings=SCRATCH,
        terms=(
            Terms(),
            Terms("joint", threshold=0.1),
            Terms("joint", threshold=0.3),
            Terms("joint", threshold=1.0),
            Terms("joint", threshold=0.3, through_weights=1.0),
            Terms("walk", pool=0.3, threshold=0.3),
            Terms("margin", threshold=0.3),
            Terms("margin", threshold=0.3, through_weights=1.0),
            Terms("agreement", threshold=0.3, through_weights=1.0),
            Terms("lanes", threshold=0.3),
            Terms("lanes", threshold=1.0),
        ),
    ),
    "cnv tuned": Problem(
        "cnv",
        {"width": 0.25},
        data="cifar10",
        settings=SCRATCH,
        tuned=replace(SCRATCH, epochs=1, lr=1e-3, norm_rate=10, warmup=0.1),
        terms=(
            Terms(),
            Terms("joint", threshold=0.3),
            Terms("joint", threshold=1.0),
            Terms("joint", threshold=1.0, through_weights=1.0),
            Terms("walk", pool=1.0, threshold=1.0),
            Terms("margin", threshold=1.0),
            Terms("agreement", threshold=1.0, through_weights=1.0),
            Terms("lanes", threshold=0.3),
            Terms("lanes", threshold=1.0),
        ),
    ),
}


class Data:
    """Training and test images of a problem."""

    def __init__(self, spec: str) -> None:
        self.images, self.labels = open_dataset(spec, split="train").load()
        self.test_images, self.test_labels = open_dataset(spec, split="test").load()


def train(model: nn.Sequential, data: Data, settings: TrainSettings, terms: Terms, autocast: bool) -> None:
    """Adam with warm-up and a cosine schedule, bfloat16 for convolutions."""
    step = 0
    batches = TrainingBatches(data.images, data.labels, settings, epoch=lambda: step // len(batches))
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for p in m.parameters()]
    others = [p for p in model.parameters() if all(p is not norm for norm in norms)]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": norms, "lr": settings.lr * settings.norm_rate}]
    optimizer = torch.optim.Adam(groups, lr=settings.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: settings.rate((step + 1) / len(batches)))
    steps = settings.epochs * len(batches)
    model.train()
    with terms.regularizer(model) as regularizer:
        for _ in range(settings.epochs):
            for images, labels in batches:
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
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
                step += 1


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
    return found | visited_by_groups(model, data)


@torch.no_grad()
def visited_by_groups(model: nn.Sequential, data: Data) -> dict[str, object]:
    """Pooled neurons that are visited if 8 neighbouring channels leave a window together; {} without such pools."""
    x = torch.tensor(data.test_images[:COUNTED]).permute(0, 3, 1, 2).float()
    visited = neurons = 0.0
    for module in model.eval():
        if isinstance(module, nn.MaxPool2d):  # 2 x 2, after the sign
            windows = functional.unfold(x, 2, stride=2).reshape(
                len(x), -1, LANES, 4, x.shape[2] // 2 * (x.shape[3] // 2)
            )
            silent = (windows < 0).cumprod(3).amax(2)
            visited += float(1 + silent[:, :, :3].sum(2).float().mean()) * windows.numel() / 4
            neurons += windows.numel()
        x = module(x)
    return {"visited_by_8": round(visited / neurons, 4)} if neurons else {}


def run(name: str, problem: Problem, data: Data, seed: int) -> Iterator[dict[str, object]]:
    """One row a training."""
    described = {"problem": name, "network": problem.network, "epochs": problem.settings.epochs}
    described["options"] = ", ".join(f"{key} {value}" for key, value in problem.options.items())
    autocast = problem.network != "mlp"
    torch.manual_seed(seed)
    plain = build(problem.network, **problem.options)
    settings = replace(problem.settings, seed=seed)
    if problem.tuned is not None:
        train(plain, data, settings, Terms(), autocast)
        settings = replace(problem.tuned, seed=seed + 1)
    for terms in problem.terms:
        model = copy.deepcopy(plain)
        train(model, data, settings, terms, autocast)
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


def record(row: dict[str, object], origin: dict[str, str], replace: bool) -> None:
    """Add a row to the file; the first one of a problem replaces that problem's old rows."""
    row = row | origin
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


def draw() -> None:
    """Accuracy against the evaluated share, a panel a problem, a color a form."""
    with PATH.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["problem"] in PROBLEMS]
    names = [name for name in PROBLEMS if any(row["problem"] == name for row in rows)]
    figure = Figure(figsize=(4.2 * len(names), 4), layout="constrained")
    forms = list(dict.fromkeys(row["form"] for row in rows))
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for index, form in enumerate(forms):
            for filled in (False, True):
                shown = [
                    row
                    for row in rows
                    if row["problem"] == name and row["form"] == form and filled == (float(row["through_weights"]) > 0)
                ]
                points = sorted((float(row["evaluated_b1"]), float(row["accuracy"])) for row in shown)
                x, y = ([point[i] for point in points] for i in range(2))
                label = f"{form}{', through weights' if filled else ''}" if shown else None
                axes.plot(x, y, "s-" if filled else "o-", color=f"C{index}", linewidth=0.7, label=label)
        axes.set(title=name, xlabel="edges evaluated, B = 1", ylabel="accuracy")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1))
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PLOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True, help="folder with the four MNIST files")
    parser.add_argument("--cifar", required=True, help="folder of CIFAR-10, or its parent")
    parser.add_argument("--only", choices=[*PROBLEMS, "step"], help="one problem, or the time of a step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    origin = provenance("python bench/regularizers.py --mnist DIR --cifar DIR") | {"torch": torch.__version__}
    for name, problem in PROBLEMS.items():
        if options.only in (None, name):
            data = Data(f"{problem.data}:{options.mnist if problem.data == 'mnist' else options.cifar}")
            for number, row in enumerate(run(name, problem, data, options.seed)):
                record(row, origin, replace=number == 0)
                print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.only in (None, "step"):
        for number, precision in enumerate(("float32", "bf16")):
            record(step_ratio(precision), origin, replace=number == 0)
    draw()


if __name__ == "__main__":
    main()
