"""Tables for the terminal, and how figures are written everywhere: on the terminal and on pages alike."""

from rich import box
from rich.console import Console
from rich.table import Table

from o3bnn.model.edges import EdgeCounts, PruningProfile

CAUSES = ("constant", "threshold_high", "threshold_low", "pooling")
UNITS = "kMGT"


def percent(share: float) -> str:
    """A share of 1 in percent with one decimal: 0.1744 -> '17.4%'."""
    return f"{100 * share:.1f}%"


def count(number: int) -> str:
    """An integer with thousands separators."""
    return f"{number:,}"


def magnitude(number: int) -> str:
    """A large integer to three digits: 823 -> '823', 21233664 -> '21.2 M'."""
    if number < 1000:
        return str(number)
    mantissa, exponent = f"{number:.2e}".split("e")
    group = min(int(exponent) // 3, len(UNITS))
    shift = int(exponent) - 3 * group
    return f"{float(mantissa) * 10**shift:.{max(0, 2 - shift)}f} {UNITS[group - 1]}"


def microseconds(seconds: float) -> str:
    """A time in microseconds with three significant digits or more: '8.31 µs', '12.4 µs', '131 µs'."""
    value = 1e6 * seconds
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} µs"


def kilobytes(size: int) -> str:
    """A file size in kB of 1,000 bytes, one decimal."""
    return f"{size / 1000:,.1f} kB"


def ratio(value: float) -> str:
    """A factor with two decimals: '1.25x'."""
    return f"{value:.2f}x"


def share(part: int, whole: int) -> float:
    """Return part of whole, 0..1; 0 where the whole is empty."""
    return part / whole if whole else 0.0


def speedup_ceiling(edges: EdgeCounts) -> float:
    """The most that pruning alone can speed up: 1 / (1 - pruned share); infinite where every edge is pruned."""
    return edges.dense / edges.evaluated if edges.evaluated else float("inf") if edges.dense else 1.0


def plain_or_rich(console: Console) -> box.Box | None:
    """Return the frame of a table: light lines on a terminal, none where the output goes to a file or a pipe."""
    return box.SIMPLE_HEAD if console.is_terminal else None


def pruning_table(profile: PruningProfile, frame: box.Box | None = box.SIMPLE_HEAD) -> Table:
    """One row a stage, then the totals: dense edges, and the shares evaluated and pruned by each cause."""
    images = f"{count(profile.images)} image{'' if profile.images == 1 else 's'}"
    table = Table(
        title=f"Edges at B = {profile.word}, {profile.bounds} bounds, {images}",
        title_justify="left",
        title_style="bold",
        box=frame,
        pad_edge=False,
        caption=ceiling_text(profile),
        caption_justify="left",
        caption_style="dim",
    )
    table.add_column("stage", overflow="fold")
    for heading in ("dense\nedges", "evaluated", "constant", "threshold\nhigh", "threshold\nlow", "pooling"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in profile.stages:
        role = "" if stage.role in ("binary", stage.name) else f" ({stage.role})"
        table.add_row(stage.name + role, *_cells(stage.edges))
    table.add_section()
    table.add_row("binary stages", *_cells(profile.total("binary")), style="bold")
    table.add_row("all stages", *_cells(profile.total()))
    return table


def ceiling_text(profile: PruningProfile) -> str:
    """The pruned share of the binary stages and the ceilings on speedup that the counts allow."""
    binary, everything = profile.total("binary"), profile.total()
    return (
        f"{percent(binary.pruned_share)} of the binary stages' edges pruned. Ceiling on the speedup:\n"
        f"{ratio(speedup_ceiling(binary))} in the binary stages, {ratio(speedup_ceiling(everything))} in all stages."
    )


def _cells(edges: EdgeCounts) -> list[str]:
    parts = (edges.evaluated, *(getattr(edges, cause) for cause in CAUSES))
    return [magnitude(edges.dense), *(percent(share(part, edges.dense)) if part else "-" for part in parts)]
