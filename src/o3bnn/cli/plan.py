"""`o3bnn plan`: find the fastest way to run each stage on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from o3bnn.cli.console import print_json, printable, results
from o3bnn.cli.options import JsonOption, ModelFile, SplitName, SplitOption
from o3bnn.cli.plans import SampleData, percent_done, sample_images, source_of
from o3bnn.engine import plan_engine, save_plan
from o3bnn.engine.saved import check_plan_path, plan_path
from o3bnn.errors import InputError
from o3bnn.model.artifact import load
from o3bnn.report.plans import plan_table, plan_text
from o3bnn.report.tables import plain_or_rich


def plan_command(
    model: ModelFile,
    data: SampleData = None,
    split: SplitOption = SplitName.TEST,
    limit: Annotated[int, typer.Option("--limit", min=1, max=4096, metavar="N", help="Sample images to time.")] = 16,
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=1024, metavar="N", help="Threads that time at once.")
    ] = 1,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, max=86400, metavar="S", help="About how long to time.")
    ] = 5.0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Plan to write; default: MODEL.plan.json.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Time every way to run each stage and save the fastest."""
    network = load(model)
    target = plan_path(model) if output is None else output
    if target.exists() and target.samefile(model):
        raise InputError(f"{target} is the model itself: give the plan another name")
    check_plan_path(target)
    images = sample_images(data, split, limit, network)
    with percent_done("plan") as tell:
        source = source_of(data, split)
        plan = plan_engine(network, images, threads=threads, seconds=seconds, source=source, progress=tell)
    save_plan(plan, target)
    if json:
        print_json({"model": str(model), "output": str(target), "plan": plan.model_dump(mode="json")})
        return
    console = results()
    console.print(plan_table(plan, plain_or_rich(console)))
    console.print(printable(plan_text(plan)), soft_wrap=True)
    console.print(printable(f"wrote {target}"), soft_wrap=True)
