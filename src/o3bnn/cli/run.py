"""`o3bnn run`: classify images."""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.table import Table

from o3bnn.cli.console import print_json, printable, results
from o3bnn.cli.options import JsonOption, ModelFile, PruningMode, PruningOption, ThreadsOption
from o3bnn.cli.plans import PlanOption, make_engine
from o3bnn.data import named_batches
from o3bnn.model import Network
from o3bnn.model.artifact import load
from o3bnn.report.tables import plain_or_rich


def run_command(
    model: ModelFile,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Image files, folders, or .npy arrays of uint8 pixels.")
    ],
    top: Annotated[int, typer.Option("--top", min=1, metavar="K", help="Classes to show for each image.")] = 1,
    threads: ThreadsOption = None,
    pruning: PruningOption = PruningMode.AUTO,
    plan: PlanOption = None,
    json: JsonOption = False,
) -> None:
    """Classify images: the best classes and their logits."""
    network = load(model)
    engine = make_engine(model, network, threads, pruning, plan)
    answers: list[tuple[str, npt.NDArray[np.float32]]] = []
    for names, images in named_batches(inputs, network.input):
        answers += zip(names, engine.run(images), strict=True)
    best = [(name, best_classes(logits, top), logits) for name, logits in answers]
    if json:
        images_json = [{"image": name, "top": _top_json(network, classes, logits)} for name, classes, logits in best]
        print_json({"model": str(model), "images": images_json})
        return
    console = results()
    table = Table(box=plain_or_rich(console), pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("class", justify="right")
    table.add_column("name", overflow="fold")
    table.add_column("logit", justify="right")
    for name, classes, logits in best:
        for rank, index in enumerate(classes):
            cells = (str(index), class_name(network, index) or "", f"{logits[index]:.4f}")
            table.add_row("" if rank else printable(name), *cells)
    console.print(table)


def best_classes(logits: npt.NDArray[np.float32], top: int) -> list[int]:
    """The classes of the highest logits, best first, the lower class first on ties."""
    return [int(index) for index in np.argsort(-logits, kind="stable")[:top]]


def class_name(network: Network, index: int) -> str | None:
    """The name of a class, or None where the model has no names."""
    return network.class_names[index] if network.class_names else None


def _top_json(network: Network, classes: list[int], logits: npt.NDArray[np.float32]) -> list[dict[str, object]]:
    """Logits that overflow float32 have no JSON number: they become null."""
    values = {index: float(logits[index]) for index in classes}
    return [
        {"class": index, "name": class_name(network, index), "logit": value if math.isfinite(value) else None}
        for index, value in values.items()
    ]
