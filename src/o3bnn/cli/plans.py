"""What commands that run the engine share: which plan it runs by, sample images, progress in percent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from o3bnn.cli.console import note, progress
from o3bnn.cli.options import PruningMode, SplitName
from o3bnn.data import open_dataset
from o3bnn.engine import Engine, EnginePlan, load_plan
from o3bnn.engine.machine import chosen_isa
from o3bnn.engine.saved import plan_beside
from o3bnn.model import Network

SampleData = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME:DIR", help="Sample images: cifar10:DIR, mnist:DIR or folder:DIR."),
]
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="Plan to run by; default: MODEL.plan.json where it exists."),
]


def find_plan(model: Path, network: Network, given: Path | None) -> EnginePlan | None:
    """The plan that was given, or else the one beside the model file, if there is one for this machine."""
    return load_plan(given) if given is not None else plan_beside(model, network, chosen_isa(), note)


def make_engine(model: Path, network: Network, threads: int | None, pruning: PruningMode, given: Path | None) -> Engine:
    """The engine of a command: by its plan unless the user says how to prune."""
    plan = find_plan(model, network, given) if given is not None or pruning is PruningMode.AUTO else None
    return Engine(network, threads=threads, pruning=pruning.value, plan=plan)


def sample_images(data: str | None, split: SplitName, limit: int, network: Network) -> npt.NDArray[np.uint8] | None:
    """The first images of a data set, uint8 [n, height, width, channels]; None where no data set is named."""
    if data is None:
        note(
            "without --data, images are random pixels: how much is pruned depends on the images, so give some of yours"
        )
        return None
    return open_dataset(data, split.value, limit, network.input).load().images


def source_of(data: str | None, split: SplitName) -> str:
    """Where sample images come from, in words."""
    return "random pixels" if data is None else f"{data}, {split.value} split"


@contextmanager
def percent_done(label: str) -> Iterator[Callable[[float], None]]:
    """Show progress in percent; yields the function that is told the share that is done, 0..1."""
    shown = 0
    with progress(label, 100, "percent") as advance:

        def tell(share: float) -> None:
            nonlocal shown
            reached = min(100, int(100 * share))
            if reached > shown:
                advance(reached - shown)
                shown = reached

        yield tell
