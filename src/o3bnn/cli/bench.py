"""`o3bnn bench`: how fast a model runs on this machine, dense and planned, and how far from the hardware's limit."""

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from o3bnn.cli.console import note, print_json, printable, results
from o3bnn.cli.options import JsonOption, ModelFile, SplitName, SplitOption, ThreadsOption
from o3bnn.cli.plans import PlanOption, SampleData, find_plan, percent_done, sample_images, source_of
from o3bnn.engine import EnginePlan, plan_engine
from o3bnn.engine.planner import random_images
from o3bnn.model import Network
from o3bnn.model.artifact import load
from o3bnn.report.bench import measure_speed
from o3bnn.report.figures import check_figure
from o3bnn.report.host import host
from o3bnn.report.speed import plot_speed, speed_document, speed_table, speed_text
from o3bnn.report.tables import plain_or_rich


def bench_command(
    model: ModelFile,
    data: SampleData = None,
    split: SplitOption = SplitName.TEST,
    limit: Annotated[int, typer.Option("--limit", min=1, max=4096, metavar="N", help="Sample images to use.")] = 16,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=1 << 16, metavar="B", help="Images at a time, for throughput.")
    ] = 64,
    threads: ThreadsOption = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, max=86400, metavar="S", help="About how long to measure.")
    ] = 5.0,
    plan: PlanOption = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw edges a second by stage (.svg, .png, .pdf).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure latency, throughput and every stage."""
    network = load(model)
    if plot is not None:
        check_figure(plot)
    chosen = find_plan(model, network, plan)
    given = sample_images(data, split, limit, network)
    images = random_images(network) if given is None else given
    with percent_done("bench") as tell:
        if chosen is None:
            chosen = _fresh_plan(model, network, images, source_of(data, split))
        speed = measure_speed(network, chosen, images, batch=batch, threads=threads, seconds=seconds, progress=tell)
    if plot is not None:
        plot_speed(network.name, speed, plot)
    if json:
        head = {"model": str(model), "data": data, "host": host()}
        print_json(head | speed_document(speed) | {"plan": chosen.model_dump(mode="json")})
        return
    console = results()
    console.print(speed_table(speed, plain_or_rich(console)))
    for line in speed_text(speed):
        console.print(printable(line), soft_wrap=True)


def _fresh_plan(model: Path, network: Network, images: npt.NDArray[np.uint8], source: str) -> EnginePlan:
    note(f"{model} has no plan for this machine: one is made for this run only; `o3bnn plan` makes one to keep")
    return plan_engine(network, images, source=source)
