"""The trade-off curve: a trained model tuned with several weights of the pruning terms, accuracy against pruned share.

    python bench/tradeoff.py --data cifar10:DIR --start runs/cnv_plain/last.safetensors --out runs/tradeoff

Every setting starts from the same checkpoint and gets the same epochs, also the one without pruning terms, so that what
further training alone does is not credited to them. Runs are resumed when the command is started again. Writes
results/tradeoff.csv (accuracy of the compiled model on the native engine over the test split; shares over the binary
stages and the first `--images` test images) and docs/tradeoff.svg.
"""

import argparse
import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import o3bnn
from o3bnn.compiler import compile_checkpoint
from o3bnn.data import open_dataset
from o3bnn.train.checkpoint import load_checkpoint
from o3bnn.train.networks import build
from o3bnn.train.session import LAST, Run, train
from o3bnn.train.settings import TrainSettings
from provenance import RESULTS, provenance

# Weights of the pooling and the threshold term: neither, each alone from mild to strong, both.
SETTINGS = ((0.0, 0.0), (0.0, 0.3), (0.0, 1.0), (0.0, 3.0), (0.3, 0.0), (1.0, 0.0), (1.0, 1.0))
MEASURES = ((1, "simple"), (64, "simple"), (64, "sharp"), (16, "sharp"))
BASE = TrainSettings(lr=1.5e-3, norm_rate=5, shift=3, flip=True, warmup=0.5, seed=1)
PLOT = Path(__file__).parent.parent / "docs" / "tradeoff.svg"
LABELS = {"pruned_b1_simple": "B = 1", "pruned_b64_simple": "B = 64", "pruned_b64_sharp": "B = 64, sharp bounds"}


def described(start: Path) -> str:
    """The run that a checkpoint is of, and which one: runs are not resumed if the file has changed since they began."""
    return f"{start.parent.name}, SHA-256 {hashlib.sha256(start.read_bytes()).hexdigest()}"


def tune(start: Path, folder: Path, settings: TrainSettings, data: str, accelerator: str) -> Path:
    """One setting's run; returns its checkpoint."""
    source, info = load_checkpoint(start)
    training = open_dataset(data, "train")
    run = Run(
        folder=folder,
        build=lambda: build(info.network, **info.options),
        network=info.network,
        options=info.options,
        class_names=info.class_names,
        data=data.partition(":")[0],
        start=described(start),
        on_epoch=lambda rows: print(folder.name, rows[-1], flush=True),
    )
    torch.manual_seed(settings.seed)
    devices = 1 if accelerator == "cpu" else "auto"
    train(source.train(), training.load(), settings, run, resume=True, accelerator=accelerator, devices=devices)
    return folder / LAST


def measure(checkpoint: Path, data: str, images: int) -> dict[str, object]:
    engine = o3bnn.Engine(compile_checkpoint(checkpoint))
    test = open_dataset(data, "test")
    pixels, labels = test.load()
    row: dict[str, object] = {"accuracy": float((engine.predict(pixels) == labels).mean())}
    for word, bounds in MEASURES:
        counts = engine.profile(pixels[:images], word=word, bounds=bounds).total("binary")  # type: ignore[arg-type]
        row[f"pruned_b{word}_{bounds}"] = round(counts.pruned_share, 6)
    return row


def draw(rows: list[dict[str, object]]) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for (name, label), color in zip(LABELS.items(), ("#1b1b1b", "#2f6f4f", "#8fc1a5"), strict=True):
        axes.plot([row[name] for row in rows], [row["accuracy"] for row in rows], "o", color=color, label=label)
    for row in rows:
        text = f"{row['lambda_pool']:g}, {row['lambda_threshold']:g}"
        axes.annotate(text, (row["pruned_b1_simple"], row["accuracy"]), (6, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("edges pruned, binary stages (labels: weight of the pooling term, of the threshold term)")
    axes.set_ylabel("accuracy, CIFAR-10")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PLOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--start", type=Path, required=True, help="checkpoint that every setting starts from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000, help="test images whose pruned edges are counted")
    parser.add_argument("--accelerator", default="auto")
    arguments = parser.parse_args()
    epochs = arguments.epochs
    started = described(arguments.start)
    rows: list[dict[str, object]] = []
    for pool, threshold in SETTINGS:
        settings = replace(BASE, epochs=epochs, ramp=0.3 * epochs, lambda_pool=pool, lambda_threshold=threshold)
        folder = arguments.out / f"pool{pool:g}_threshold{threshold:g}"
        checkpoint = tune(arguments.start, folder, settings, arguments.data, arguments.accelerator)
        head = {"lambda_pool": pool, "lambda_threshold": threshold, "epochs": epochs, "images": arguments.images}
        rows.append(head | measure(checkpoint, arguments.data, arguments.images))
        print(rows[-1], flush=True)
    start = f"RUNS/{arguments.start.parent.name}/{arguments.start.name}"
    command = f"python bench/tradeoff.py --data DATA --start {start} --out DIR --epochs {epochs}"
    origin = {"start": started} | provenance(command)
    with (RESULTS / "tradeoff.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], *origin], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | origin for row in rows)
    draw(rows)


if __name__ == "__main__":
    main()
