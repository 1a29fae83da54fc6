"""An engine plan as a table that says why."""

from rich import box
from rich.table import Table

from o3bnn.engine import EnginePlan
from o3bnn.report.tables import count, microseconds, ratio


def plan_table(plan: EnginePlan, frame: box.Box | None) -> Table:
    """One row a stage: what runs it, times of an image, and the reason."""
    table = Table(box=frame, pad_edge=False)
    table.add_column("stage", overflow="fold")
    table.add_column("method")
    for heading in ("dense", "planned", "speedup"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for stage in plan.stages:
        dense, chosen = stage.candidates[0], stage.chosen
        times = (microseconds(dense.seconds), microseconds(chosen.seconds), ratio(chosen.speedup[1]))
        table.add_row(stage.name, stage.label, *times, stage.reason)
    return table


def plan_text(plan: EnginePlan) -> str:
    """A line on the whole network, and what it was measured with."""
    threads = "1 thread" if plan.threads == 1 else f"{plan.threads} threads"
    images = f"{count(plan.images)} image{'' if plan.images == 1 else 's'}"
    return (
        f"an image takes {microseconds(plan.dense_seconds)} dense, {microseconds(plan.planned_seconds)} planned: "
        f"{ratio(plan.speedup)} ({plan.isa}, {plan.cpu}, {threads}, {images}: {plan.source})"
    )
