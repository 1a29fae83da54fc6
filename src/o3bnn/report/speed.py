"""The measured speed of a model as a table, as lines, as JSON and as a plot."""

from pathlib import Path

from rich import box
from rich.table import Table

from o3bnn.report.bench import MODES, WORD, Speed, StageSpeed
from o3bnn.report.figures import save_figure
from o3bnn.report.tables import count, magnitude, microseconds, percent, ratio, speedup_ceiling
from o3bnn.report.timing import Timings

DENSE_COLOR, PLANNED_COLOR, ROOFLINE_COLOR = "#8d99ae", "#2f6f4f", "#d1495b"


def speed_table(speed: Speed, frame: box.Box | None) -> Table:
    """One row a stage, on one thread: times, edges a second, the share of the roofline, what is pruned."""
    table = Table(title="stages, one thread", title_justify="left", title_style="bold", box=frame, pad_edge=False)
    table.add_column("stage", overflow="fold")
    table.add_column("planned method")
    headings = ("edges", "dense", "G edges/s", "of\nroofline", "planned", "speedup", f"pruned\nB = {WORD}", "ceiling")
    for heading in headings:
        table.add_column(heading if frame else heading.replace("\n", " "), justify="right", no_wrap=True)
    for stage in speed.stages:
        role = "" if stage.counted.role in ("binary", stage.counted.name) else f" ({stage.counted.role})"
        table.add_row(stage.counted.name + role, stage.method, *_cells(speed, stage))
    if speed.binary_stages:
        table.add_section()
        table.add_row("binary stages", "", *_cells(speed, *speed.binary_stages), style="bold")
    return table


def speed_text(speed: Speed) -> list[str]:
    """Lines on latency, throughput and the roofline."""
    threads = "1 thread" if speed.threads == 1 else f"{speed.threads} threads"
    dense, planned = (speed.latency.median(mode) for mode in MODES)
    lines = [
        f"latency     {microseconds(dense)} dense, {microseconds(planned)} planned: {_gain(speed.latency)}, "
        f"one image, {threads}"
    ]
    dense, planned = (speed.batch / speed.throughput.median(mode) for mode in MODES)
    lines.append(
        f"throughput  {count(round(dense))} images/s dense, {count(round(planned))} planned: "
        f"{_gain(speed.throughput)}, batches of {speed.batch}, {threads}"
    )
    lines.append(f"roofline    {_rate(speed.roofline)} G edges/s: {speed.isa}, popcount loop on registers, one thread")
    return lines


def speed_document(speed: Speed) -> dict[str, object]:
    """Everything as JSON."""
    return {
        "isa": speed.isa,
        "threads": speed.threads,
        "batch": speed.batch,
        "images": speed.images,
        "scope": "inference of images in memory",
        "roofline_edges_per_second": speed.roofline,
        "latency": _timings_document(speed.latency),
        "throughput": _timings_document(speed.throughput)
        | {f"{mode}_images_per_second": speed.batch / speed.throughput.median(mode) for mode in MODES},
        "stages": [_stage_document(speed, stage.counted.name, stage.method, stage) for stage in speed.stages],
        "binary_stages": _stage_document(speed, "binary stages", "", *speed.binary_stages)
        if speed.binary_stages
        else None,
    }


def plot_speed(name: str, speed: Speed, path: Path) -> None:
    """Draw edges a second of every stage, dense and planned, beside the roofline; the format by the file's suffix.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # `check_figure` says so where it is not installed

    stages = [stage for stage in speed.stages if stage.counted.role == "binary"]
    figure = Figure(figsize=(8, 1.6 + 0.5 * len(stages)), layout="constrained")
    axes = figure.add_subplot()
    for offset, mode, color in ((-0.2, "dense", DENSE_COLOR), (0.2, "planned", PLANNED_COLOR)):
        rows = [row + offset for row in range(len(stages))]
        rates = [speed.edge_rate(mode, stage) / 1e9 for stage in stages]
        axes.barh(rows, rates, height=0.36, color=color, label=mode)
        for row, rate in zip(rows, rates, strict=True):
            axes.annotate(f"{rate:,.0f}", (rate, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.axvline(speed.roofline / 1e9, color=ROOFLINE_COLOR, linestyle="--", label="popcount roofline")
    labels = [
        stage.counted.name if stage.method == "dense" else f"{stage.counted.name}\n{stage.method}" for stage in stages
    ]
    axes.set_yticks(range(len(stages)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("10⁹ dense edges a second, pruned ones counted as done; one thread")
    axes.set_title(f"{name}, {speed.isa}", loc="left", parse_math=False)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize="small")
    save_figure(figure, path)


def _cells(speed: Speed, *stages: StageSpeed) -> list[str]:
    dense, planned = (sum(stage.timings.median(mode) for stage in stages) for mode in MODES)
    rate = speed.edge_rate("dense", *stages)
    binary = all(stage.counted.role == "binary" for stage in stages)
    edges = speed.binary_edges if len(stages) > 1 else stages[0].counted.edges
    pruned = edges.pruned_share
    return [
        magnitude(round(sum(map(speed.edges, stages)))),
        microseconds(dense),
        _rate(rate),
        percent(rate / speed.roofline) if binary else "-",
        microseconds(planned),
        ratio(dense / planned),
        percent(pruned) if pruned else "-",
        ratio(speedup_ceiling(edges)),
    ]


def _rate(edges: float) -> str:
    giga = edges / 1e9
    return f"{giga:,.0f}" if giga >= 100 else f"{giga:.1f}"


def _gain(timings: Timings) -> str:
    low, middle, high = timings.speedup("planned", over="dense")
    return f"{ratio(middle)} ({low:.2f} to {high:.2f})"


def _timings_document(timings: Timings) -> dict[str, object]:
    low, middle, high = timings.speedup("planned", over="dense")
    return {
        "rounds": timings.rounds,
        **{f"{mode}_seconds": timings.median(mode) for mode in MODES},
        "speedup": {"first_decile": low, "median": middle, "last_decile": high},
    }


def _stage_document(speed: Speed, name: str, method: str, *stages: StageSpeed) -> dict[str, object]:
    edges = speed.binary_edges if len(stages) > 1 else stages[0].counted.edges
    dense, planned = (sum(stage.timings.median(mode) for stage in stages) for mode in MODES)
    ceiling = speedup_ceiling(edges)
    rate = speed.edge_rate("dense", *stages)
    return {
        "name": name,
        "role": "binary" if len(stages) > 1 else stages[0].counted.role,
        "method": method,
        "edges": sum(map(speed.edges, stages)),
        "dense_seconds": dense,
        "planned_seconds": planned,
        "speedup": dense / planned,
        "dense_edges_per_second": rate,
        "share_of_roofline": rate / speed.roofline if stages[0].counted.role == "binary" else None,
        "pruned_share": edges.pruned_share,
        "ceiling": None if ceiling == float("inf") else ceiling,
    }
