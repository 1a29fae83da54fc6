"""`o3bnn eval`: accuracy of a model on a data set."""

from time import perf_counter
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from o3bnn.cli.console import note, print_json, printable, progress, results
from o3bnn.cli.options import (
    DataName,
    JsonOption,
    LimitOption,
    ModelFile,
    PruningMode,
    PruningOption,
    SplitName,
    SplitOption,
    ThreadsOption,
)
from o3bnn.cli.plans import PlanOption, make_engine
from o3bnn.data import Dataset, open_dataset
from o3bnn.engine import Engine
from o3bnn.errors import DataError
from o3bnn.model import Network
from o3bnn.model.artifact import load


def eval_command(
    model: ModelFile,
    data: DataName,
    split: SplitOption = SplitName.TEST,
    limit: LimitOption = None,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Images at a time.")] = 256,
    threads: ThreadsOption = None,
    pruning: PruningOption = PruningMode.AUTO,
    plan: PlanOption = None,
    json: JsonOption = False,
) -> None:
    """Measure the accuracy of a model on a data set."""
    network = load(model)
    dataset = open_dataset(data, split.value, limit, network.input)
    class_of = class_indices(network, dataset)
    engine = make_engine(model, network, threads, pruning, plan)
    start = perf_counter()
    correct = count_correct(engine, dataset, class_of, batch)
    seconds = perf_counter() - start
    if json:
        print_json(
            {"model": str(model), "data": data, "split": split.value}
            | _measured(len(dataset), correct, seconds)
            | {"batch": batch, "threads": engine.threads, "isa": engine.isa, "pruning": engine.pruning}
            | {"planned": engine.plan is not None}
        )
        return
    console = results()
    console.print(printable(f"{network.name} on {data}, {split.value} split (engine)"), soft_wrap=True)
    console.print(f"accuracy  {100 * correct / len(dataset):.2f}% ({correct} of {len(dataset)})")
    console.print(f"speed     {len(dataset) / seconds:,.0f} images/s end-to-end (reading and preprocessing included)")


def _measured(images: int, correct: int, seconds: float) -> dict[str, object]:
    return {
        "images": images,
        "correct": correct,
        "accuracy": correct / images,
        "accuracy_path": "engine",
        "seconds": seconds,
        "images_per_second": images / seconds,
        "speed_scope": "end-to-end",
    }


def count_correct(engine: Engine, dataset: Dataset, class_of: npt.NDArray[np.int64], batch: int) -> int:
    """Number of images whose best class is their label's."""
    correct = 0
    with progress("eval", len(dataset)) as advance:
        for images, labels in dataset.batches(batch):
            correct += int((engine.predict(images) == class_of[labels]).sum())
            advance(len(labels))
    return correct


def class_indices(network: Network, dataset: Dataset) -> npt.NDArray[np.int64]:
    """The network's class for each label of a data set: int64 [labels].

    By name where the network knows all of the data set's names (a folder may hold some of the classes only), else by
    position. Raises `DataError` where there are fewer positions than labels, or other names for a part of the classes.
    """
    names, classes = dataset.class_names, network.output.classes
    position = {name: index for index, name in enumerate(network.class_names)}
    if len(position) == len(network.class_names) and position.keys() >= set(names):
        return np.array([position[name] for name in names], np.int64)
    if len(names) > classes or (position and len(names) < classes):
        raise DataError(f"{dataset.name} has {len(names)} classes, and they are not among the model's {classes}")
    if position:
        note("the model's class names are not the data set's: classes are compared by position")
    return np.arange(len(names), dtype=np.int64)
