"""Train the CIFAR-10 and ImageNet-style models, compile them, and record how good they are.

    python bench/train_models.py cnv_plain cnv_pruned --data cifar10:DIR --out runs
    python bench/train_models.py vgg_like_plain vgg_like_pruned --data cifar10:DIR --out runs --accelerator gpu
    python bench/train_models.py alexnet_plain vgg16_plain --data folder:DIR --out runs --accelerator gpu
    python bench/train_models.py cnv_plain cnv_pruned --data cifar10:DIR --out runs --measure

Each recipe trains in OUT/<recipe>/, and goes on there when it is started again. Training needs PyTorch, Lightning and
safetensors, no native extension: PyTorch evaluates the epochs. `--measure` trains nothing, compiles to
OUT/<recipe>.safetensors and writes results/models.csv, where rows of other models stay: accuracy of the compiled model
on the native engine over the full test split, which must be PyTorch's to the last image, and pruned shares over it, or
over the first `--images` of it.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from o3bnn.data import Dataset, open_dataset
from o3bnn.train.checkpoint import load_checkpoint
from o3bnn.train.networks import build
from o3bnn.train.session import LAST, Row, Run, train
from o3bnn.train.settings import TrainSettings

BATCH = 500


@dataclass(frozen=True)
class Recipe:
    """A model: its network and how it is trained. stored: see `--stored-size` of `o3bnn train`.

    start: the recipe whose result it starts from. teacher: the one whose result it learns from. They must have been
    trained in the same folder before.
    """

    network: str
    settings: TrainSettings
    options: dict[str, Any] = field(default_factory=dict)
    stored: tuple[int, int, int] | None = None
    start: str | None = None
    teacher: str | None = None


CIFAR = TrainSettings(epochs=30, shift=3, flip=True, seed=1)
DISTILLED = replace(CIFAR, lr=2e-3, distill=0.7, seed=2)
IMAGENET = TrainSettings(epochs=60, batch=256, lr=2e-3, shift=8, flip=True, seed=1)
RECIPES = {
    "cnv_start": Recipe("cnv", CIFAR),
    "cnv_teacher": Recipe("cnv", replace(CIFAR, epochs=12), options={"real_valued": True}),
    "cnv_distilled": Recipe("cnv", DISTILLED, start="cnv_start", teacher="cnv_teacher"),
    "cnv_plain": Recipe(
        "cnv", replace(DISTILLED, epochs=40, lr=1.5e-3, seed=3), start="cnv_distilled", teacher="cnv_teacher"
    ),
    "vgg_like_plain": Recipe("vgg_like", replace(CIFAR, epochs=120)),
    "vgg_like_half_plain": Recipe("vgg_like", replace(CIFAR, epochs=10), options={"width": 0.5}),
    "alexnet_plain": Recipe("alexnet", IMAGENET, stored=(64, 64, 3)),
    "vgg16_plain": Recipe("vgg16", IMAGENET, stored=(64, 64, 3)),
}


def _pruned(name: str, recipe: Recipe) -> Recipe:
    """The plain model, trained on with pruning terms for 3/4 of its epochs; thresholds move faster than weights."""
    plain = recipe.settings
    epochs = round(0.75 * plain.epochs)
    terms: dict[str, Any] = {"lambda_threshold": 0.4, "ramp": 0.2 * epochs, "norm_rate": 5.0}
    return replace(recipe, start=name, settings=replace(plain, epochs=epochs, lr=1.5e-3, seed=plain.seed + 1, **terms))


RECIPES |= {
    name.replace("plain", "pruned"): _pruned(name, recipe)
    for name, recipe in RECIPES.items()
    if name.endswith("_plain")
}


def datasets(recipe: Recipe, spec: str, limit: int | None) -> tuple[Dataset, Dataset]:
    """Training and test split; only a folder's images are scaled, and need the integer network's description."""
    if not spec.startswith("folder:"):
        return open_dataset(spec, "train", limit), open_dataset(spec, "test", limit)
    from o3bnn.model import InputEncoding

    stored = InputEncoding(*(recipe.stored or (224, 224, 3)))
    return open_dataset(spec, "train", limit, stored), open_dataset(spec, "test", limit, InputEncoding(224, 224, 3))


@torch.no_grad()
def correct_in_torch(module: nn.Sequential, test: Dataset, device: str) -> int:
    """Images of the test split that PyTorch classifies right, in eval mode."""
    module = module.to(device).eval()
    correct = 0
    for images, labels in test.batches(BATCH):
        logits = module(torch.tensor(images, device=device).permute(0, 3, 1, 2).float())
        correct += int((logits.argmax(1).cpu().numpy() == labels).sum())
    return correct


def _finished(name: str, arguments: argparse.Namespace) -> nn.Sequential:
    """The network of a recipe that has been trained to its end."""
    checkpoint, epochs = arguments.out / name / LAST, arguments.epochs or RECIPES[name].settings.epochs
    if checkpoint.is_file():
        module, info = load_checkpoint(checkpoint)
        if info.metadata.get("epochs") == f"{epochs} of {epochs}":
            return module
    raise SystemExit(f"{checkpoint} is missing or unfinished: train {name} first (the same command with that recipe)")


def fit(name: str, recipe: Recipe, arguments: argparse.Namespace) -> None:
    training, test = datasets(recipe, arguments.data, arguments.limit)
    options = {"classes": len(training.class_names), **recipe.options}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    start, teacher = (
        None if source is None else _finished(source, arguments) for source in (recipe.start, recipe.teacher)
    )
    settings = recipe.settings if arguments.epochs is None else replace(recipe.settings, epochs=arguments.epochs)
    torch.manual_seed(settings.seed)
    net = build(recipe.network, **options) if start is None else start.train()

    def evaluate(module: nn.Sequential) -> Row:
        found: Row = {"accuracy": correct_in_torch(module, test, device) / len(test)}
        return found

    def show(rows: list[Row]) -> None:
        print(name, ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()), flush=True)

    run = Run(
        folder=arguments.out / name,
        build=lambda: build(recipe.network, **options),
        network=recipe.network,
        options=options,
        image=test.shape,
        class_names=training.class_names,
        data=arguments.data.partition(":")[0],
        start=recipe.start or "",
        teacher=recipe.teacher or "",
        evaluate=evaluate,
        on_epoch=show,
    )
    devices = 1 if arguments.accelerator == "cpu" else "auto"
    train(
        net,
        training.load(),
        settings,
        run,
        resume=True,
        teacher=teacher,
        accelerator=arguments.accelerator,
        devices=devices,
    )


def compile_run(name: str, out: Path) -> Path:
    import o3bnn
    from o3bnn.compiler import compile_checkpoint

    path = out / f"{name}.safetensors"
    o3bnn.save(replace(compile_checkpoint(out / name / LAST), name=name), path)
    return path


def measure(name: str, recipe: Recipe, arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """A row a stage, and one for all binary stages."""
    import o3bnn

    _, test = datasets(recipe, arguments.data, arguments.limit)
    engine = o3bnn.Engine(o3bnn.load(compile_run(name, arguments.out)))
    correct = sum(int((engine.predict(images) == labels).sum()) for images, labels in test.batches(BATCH))
    in_torch = correct_in_torch(load_checkpoint(arguments.out / name / LAST)[0], test, "cpu")
    if correct != in_torch:
        raise SystemExit(f"{name}: the engine classifies {correct} images right, PyTorch {in_torch}")
    images = test.load().images[: arguments.images]
    profiles = {
        f"b{word}_{bounds}": engine.profile(images, word=word, bounds=bounds)
        for word, bounds in ((1, "simple"), (64, "simple"), (64, "sharp"), (16, "sharp"))
    }
    head = {
        "model": name,
        "accuracy": correct / len(test),
        "images": len(test),
        "accuracy_path": "compiled artifact, native engine, full test split; equal to PyTorch's",
    }
    simple = profiles["b1_simple"]
    parts = [
        (stage.name, stage.role, [p.stages[i].edges for p in profiles.values()])
        for i, stage in enumerate(simple.stages)
    ]
    parts.append(("all", "binary", [p.total("binary") for p in profiles.values()]))
    for stage, role, edges in parts:
        shares = {f"pruned_{key}": f"{counts.pruned_share:.6f}" for key, counts in zip(profiles, edges, strict=True)}
        causes = ("constant", "threshold_high", "threshold_low", "pooling")
        by_cause = {f"{cause}_b1": f"{getattr(edges[0], cause) / max(edges[0].dense, 1):.6f}" for cause in causes}
        yield (
            head
            | {"stage": stage, "role": role, "pruned_images": len(images), "dense_edges": edges[0].dense // len(images)}
            | shares
            | by_cause
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", choices=sorted(RECIPES))
    parser.add_argument("--data", required=True, help="cifar10:DIR or folder:DIR")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu or auto")
    parser.add_argument("--epochs", type=int, help="another number of epochs than the recipe's")
    parser.add_argument("--limit", type=int, help="use the first images only (rehearsals)")
    parser.add_argument("--measure", action="store_true", help="train nothing, measure")
    parser.add_argument("--images", type=int, help="count pruned edges of the first test images only")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    real_valued = [name for name in arguments.recipes if RECIPES[name].options.get("real_valued")]
    if arguments.measure and real_valued:
        parser.error(
            f"{', '.join(real_valued)}: a real-valued network cannot be compiled, so there is nothing to measure"
        )
    for name in arguments.recipes:
        if arguments.measure:
            rows += measure(name, RECIPES[name], arguments)
        else:
            fit(name, RECIPES[name], arguments)
    if not arguments.measure:
        return
    from provenance import provenance, write_rows

    origin = provenance("python bench/train_models.py RECIPE ... --data DATA --out DIR --measure")
    write_rows("models.csv", [row | origin for row in rows], ("model",))
    for row in rows:
        if row["stage"] == "all":
            print(", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
