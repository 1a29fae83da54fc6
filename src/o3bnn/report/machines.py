"""Simulated machines side by side: a table of the machines, two of a machine's stages, a plot of where cycles go."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from o3bnn.accel.resources import Resources
from o3bnn.accel.results import STALLS, WORDS, SimulationResult, StageResult, add
from o3bnn.report.figures import save_figure
from o3bnn.report.tables import CAUSES, count, magnitude, microseconds, percent, ratio, share

PARTS = (*WORDS, *STALLS)
SHOWN = 0.005
DETAILS = (
    *("evalu-\nated", "constant", "thr.\nhigh", "thr.\nlow", "pooling", "wasted"),
    *("DRAM\nweights", "DRAM\nmaps", "on-chip\nread", "on-chip\nwritten"),
    *("stations\nbusy", "slot\nwords", "slot w.\npeak"),
)
DETAIL_CAPTION = (
    "Edges: shares of the dense ones; thr.: decided by the threshold. Memories: bytes an image; weights from DRAM\n"
    "count in the stage during which they are requested, mostly one before their own. Stations busy: mean of a PE's\n"
    "{stations}. Slot words: patch words held, the mean of all groups together and the peak of one group."
)
COLORS = {
    "useful": "#2f6f4f",
    "overrun": "#c9a227",
    "squashed": "#d98e04",
    "halo": "#e6c229",
    "unmapped": "#c0c0c0",
    "weights": "#6a4c93",
    "decision": "#1982c4",
    "imbalance": "#d1495b",
    "image": "#8f5b34",
    "window": "#66a182",
    "dispatch": "#8d99ae",
    "drain": "#edae49",
}


def mean_stages(runs: Sequence[SimulationResult]) -> tuple[StageResult, ...]:
    """Sums over images, stage by stage."""
    return tuple(add(stages[0].name, list(stages)) for stages in zip(*(run.stages for run in runs), strict=True))


def machine_table(runs: Mapping[str, Sequence[SimulationResult]], frame: box.Box | None) -> Table:
    """One row a machine: cycles and time of an image, speedup over `dense`, utilization, pruned edges, losses."""
    table = Table(box=frame, pad_edge=False, caption=_ceiling(runs), caption_justify="left", caption_style="dim")
    table.add_column("machine")
    for heading in ("cycles\nan image", "time", "speedup", "useful\nwords", "edges\npruned", "edges\nwasted"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("largest losses", overflow="fold")
    base = _cycles(runs["dense"]) if "dense" in runs else None
    for name, results in runs.items():
        total = add("total", [result.total for result in results])
        speedup = ratio(base / _cycles(results)) if base else "-"
        seconds = sum(result.seconds for result in results) / _images(results)
        wasted = percent(share(total.wasted, total.edges.dense))
        numbers = (count(round(_cycles(results))), microseconds(seconds), speedup, percent(total.utilization))
        table.add_row(name, *numbers, percent(total.edges.pruned_share), wasted, losses(total))
    return table


def stage_table(results: Sequence[SimulationResult], frame: box.Box | None) -> Table:
    """One row a stage of one machine."""
    title = f"{results[0].config.name}: groups x lanes x channel slots [by strip] [x passes]"
    table = Table(title=title, title_justify="left", title_style="bold", box=frame, pad_edge=False)
    table.add_column("stage", overflow="fold")
    table.add_column("mapping")
    for heading in ("dense\nedges", "pruned", "wasted", "cycles\nan image", "useful\nwords"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("largest losses", overflow="fold")
    for first, stage in zip(results[0].stages, mean_stages(results), strict=True):
        edges = stage.edges
        cells = (magnitude(edges.dense), percent(edges.pruned_share), percent(share(stage.wasted, edges.dense)))
        cycles = count(round(stage.cycles / _images(results)))
        table.add_row(stage.name, first.mapping, *cells, cycles, percent(stage.utilization), losses(stage))
    return table


def detail_table(results: Sequence[SimulationResult], frame: box.Box | None) -> Table:
    """Where the edges and bits of one machine go: one row a stage, then their total; traffic in bytes an image."""
    config = results[0].config
    table = Table(
        title=f"{config.name}: where edges and bits go",
        title_justify="left",
        title_style="bold",
        caption=DETAIL_CAPTION.format(stations=config.stations),
        caption_justify="left",
        caption_style="dim",
        box=frame,
        pad_edge=False,
        collapse_padding=frame is not None,  # the frame's own columns keep it readable, and it fits in 120
    )
    table.add_column("stage", overflow="fold")
    for heading in DETAILS:
        table.add_column(heading, justify="right", no_wrap=True)
    stages, word, images = mean_stages(results), config.word, _images(results)
    for stage in stages:
        table.add_row(stage.name, *_details(stage, word, images))
    table.add_section()
    table.add_row("total", *_details(add("total", list(stages)), word, images), style="bold")
    return table


def _details(stage: StageResult, word: int, images: int) -> list[str]:
    """The cells of a row of `detail_table`, in the order of `DETAILS`."""
    edges = (stage.edges.evaluated, *(getattr(stage.edges, cause) for cause in CAUSES), stage.wasted)
    dram = stage.traffic["dram_weight_bits"], stage.traffic["dram_map_bits"]
    occupancy = (
        f"{share(stage.station_cycles, stage.pes * stage.cycles):.2f}",
        magnitude(round(share(stage.slot_word_cycles, stage.cycles))),
        magnitude(stage.slot_words_peak),
    )
    return [
        *(percent(share(part, stage.edges.dense)) if part else "-" for part in edges),
        *(magnitude(round(bits / 8 / images)) if bits else "-" for bits in (*dram, *on_chip_bits(stage, word))),
        *occupancy,
    ]


def on_chip_bits(stage: StageResult, word: int) -> tuple[int, int]:
    """Bits read from and written to on-chip memories, together what the energy model counts.

    A word that issues is read from a slot and from a weight bank, one that the loader moves from a map.
    """
    traffic = stage.traffic
    read = (2 * stage.issued + traffic["map_reads"]) * word
    return read, (traffic["slot_writes"] + traffic["weight_writes"]) * word + traffic["map_write_bits"]


def losses(stage: StageResult, most: int = 3) -> str:
    """The largest shares of PE cycles that did nothing useful, in words."""
    whole = stage.pes * stage.cycles
    parts = {**stage.words, **stage.stalls}
    ranked = sorted(((share(parts[name], whole), name) for name in PARTS if name != "useful"), reverse=True)
    return ", ".join(f"{name} {percent(part)}" for part, name in ranked[:most] if part >= SHOWN)


def resource_text(found: Resources) -> str:
    """A line on the estimated resources."""
    if found.device is None:
        return f"resources: about {count(found.luts)} LUTs, {found.blocks} blocks of 18 kbit ({found.basis})"
    device = found.device
    verdict = "fits" if found.fits else "DOES NOT FIT"
    return (
        f"resources: about {count(found.luts)} of {count(device.luts)} LUTs, {found.blocks} of {device.blocks} "
        f"{device.block_name}: {verdict} {device.name} ({found.basis})"
    )


def _images(results: Sequence[SimulationResult]) -> int:
    return sum(result.images for result in results)


def _cycles(results: Sequence[SimulationResult]) -> float:
    return sum(result.cycles for result in results) / _images(results)


def _ceiling(runs: Mapping[str, Sequence[SimulationResult]]) -> str | None:
    """The ceiling that pruning sets, by the words that `inorder` finds useful: an order-independent count."""
    if "dense" not in runs or len(runs) < 2:
        return None
    name = "inorder" if "inorder" in runs else "o3"
    dense, pruned = (sum(r.total.words["useful"] for r in runs[machine]) for machine in ("dense", name))
    return f"ceiling from pruning alone, in edge words: {ratio(dense / pruned if pruned else float('inf'))}"


def plot_machines(runs: Mapping[str, Sequence[SimulationResult]], path: Path) -> None:
    """Draw where every PE cycle goes, one bar a machine, as long as its cycles; the format by the file's suffix.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # `check_figure` says so where it is not installed

    height = max(0.9 + 0.6 * len(runs), 0.24 * len(PARTS))  # of the bars, of the legend
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.add_subplot()
    for row, results in enumerate(runs.values()):
        total = add("total", [result.total for result in results])
        left = 0.0
        for part in PARTS:
            cycles = {**total.words, **total.stalls}[part] / total.pes / _images(results)
            axes.barh(row, cycles, left=left, color=COLORS[part], label=part if row == 0 else None)
            left += cycles
    axes.set_yticks(range(len(runs)), list(runs))
    axes.invert_yaxis()
    axes.set_xlabel("cycles an image")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
    save_figure(figure, path)
