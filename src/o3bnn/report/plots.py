"""The plots of the demo's page, each as inline SVG. Every value comes from a `Measurement`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, PercentFormatter

from o3bnn.model.edges import PruningProfile
from o3bnn.report.measure import SHARP_WORDS, WORDS, Measurement
from o3bnn.report.neurons import Walk
from o3bnn.report.svg import ACCENT, CAUSE_COLORS, GRID, INK, MUTED, ON_BAR, drawing, to_inline
from o3bnn.report.tables import microseconds, percent, share
from o3bnn.report.timing import Timings

BAR_PARTS = ("evaluated", "pooling", "threshold_high", "threshold_low", "constant")
MIN_LABELLED_SHARE = 0.085
LABEL_GAP = 0.085
MODE_LABELS = {"off": "pruning off", "on": "pruning on", "auto": "planned"}


def pruning_bars(name: str, profile: PruningProfile) -> str:
    """Stacked bars, one a stage: which share of its edges is evaluated, and what pruned the rest."""
    rows = [(stage.name, stage.edges) for stage in profile.stages]
    rows.append(("binary stages", profile.total("binary")))
    with drawing(height=0.55 + 0.36 * len(rows)) as (figure, axes):
        for row, (_, counts) in enumerate(rows):
            left = 0.0
            for part in BAR_PARTS:
                width = share(getattr(counts, part), counts.dense)
                axes.barh(row, width, left=left, height=0.68, color=CAUSE_COLORS[part], linewidth=0)
                if width >= MIN_LABELLED_SHARE:
                    axes.text(left + width / 2, row, f"{100 * width:.0f}%", color=ON_BAR, ha="center", va="center")
                left += width
        axes.axhline(len(rows) - 1.5, color=GRID, linewidth=1.2)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.get_yticklabels()[-1].set_fontweight("bold")
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        _percent_axis(axes, "x")
        axes.set_xlim(0, 1)
        described = "; ".join(f"{label} {percent(1 - counts.pruned_share)} evaluated" for label, counts in rows)
        return to_inline(figure, name, f"Edges by stage at B = {profile.word}: {described}.")


def evaluated_by_word(name: str, measurement: Measurement) -> str:
    """Lines: the evaluated share of every binary stage, and of all together, against the word width B."""
    profiles = [measurement.sweep["simple", word] for word in WORDS]
    labels = [stage.name for stage in profiles[0].stages if stage.role == "binary"]
    labels = labels if len(labels) > 1 else []  # a single stage is the total
    lines = {label: [_stage_share(profile, label) for profile in profiles] for label in labels}
    total = [measurement.swept_share(word) for word in WORDS]
    sharp = [measurement.swept_share(word, "sharp") for word in SHARP_WORDS]
    with drawing(height=2.9) as (figure, axes):
        for values in lines.values():
            axes.plot(WORDS, values, color=MUTED, linewidth=1.2)
        axes.plot(WORDS, total, color=ACCENT, linewidth=2.6)
        axes.plot(SHARP_WORDS, sharp, color=ACCENT, linewidth=1.8, linestyle=(0, (4, 2.5)))
        ends = {label: values[-1] for label, values in lines.items()}
        ends |= {"all": total[-1], "all, sharp": sharp[-1]}
        _label_ends(axes, ends)
        axes.set_xscale("log", base=2)
        axes.set_xticks(WORDS, [str(word) for word in WORDS])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("edges per word, B")
        axes.set_ylim(0, 1.03)
        _percent_axis(axes, "y")
        described = ", ".join(f"B = {word} {percent(value)}" for word, value in zip(WORDS, total, strict=True))
        return to_inline(figure, name, f"Evaluated share of the binary stages' edges: {described}.")


def shares_by_class(name: str, measurement: Measurement) -> str:
    """A dot an image, a row a class: the evaluated share of its edges, with the median of each class."""
    classes = np.unique(measurement.labels)
    names = [measurement.class_names[label] for label in classes]
    described = []
    with drawing(height=0.6 + 0.26 * len(classes)) as (figure, axes):
        for row, (label, class_name) in enumerate(zip(classes, names, strict=True)):
            values = np.sort(measurement.image_shares[measurement.labels == label])
            spread = ((np.arange(len(values)) * 7) % 10 - 4.5) / 18
            axes.plot(
                values, row + spread, "o", color=ACCENT, markersize=3.6, alpha=0.55, markeredgewidth=0, clip_on=False
            )
            middle = float(np.median(values))
            axes.plot([middle, middle], [row - 0.42, row + 0.42], color=INK, linewidth=2)
            described.append(f"{class_name}: {percent(middle)}")
        axes.set_yticks(range(len(classes)), names)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(classes) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("evaluated share of the binary stages' edges")
        _percent_axis(axes, "x", decimals=None)
        return to_inline(figure, name, f"Median evaluated share by class: {', '.join(described)}.")


def compared_stages(name: str, models: Sequence[str], profiles: Sequence[PruningProfile]) -> str:
    """Two dots a stage: the evaluated share of its edges in the plain model and in the one trained for pruning."""
    stages = [stage.name for stage in profiles[0].stages if stage.role == "binary"]
    shares = [[*(_stage_share(p, stage) for stage in stages), 1 - p.total("binary").pruned_share] for p in profiles]
    rows = range(len(stages) + 1)
    with drawing(height=0.95 + 0.3 * len(rows)) as (figure, axes):
        axes.hlines(rows, shares[0], shares[1], color=GRID, linewidth=3)
        for values, color, model in zip(shares, (MUTED, ACCENT), models, strict=True):
            axes.plot(values, rows, "o", color=color, markersize=8, label=model, clip_on=False)
        axes.axhline(len(stages) - 0.5, color=GRID, linewidth=1.2)
        axes.set_yticks(rows, [*stages, "binary stages"])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.get_yticklabels()[-1].set_fontweight("bold")
        axes.set_ylim(len(stages) + 0.6, -0.6)
        axes.set_xlim(0, 1)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("evaluated share of the stage's edges")
        _percent_axis(axes, "x")
        axes.legend(frameon=False, labelcolor=INK, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
        described = "; ".join(
            f"{stage} {percent(first)} and {percent(second)}"
            for stage, first, second in zip([*stages, "binary stages"], *shares, strict=True)
        )
        return to_inline(
            figure, name, f"Evaluated shares at B = {profiles[0].word}, {' and '.join(models)}: {described}."
        )


def walk_reach(one: Walk) -> float:
    """How far from zero the plot of a neuron has to reach."""
    height = 2 * one.matches - np.arange(one.fan_in + 1)
    return float(1.15 * max(np.abs(height).max(), abs(2 * one.threshold - one.fan_in), 8))


def walk(name: str, one: Walk, reach: float) -> str:
    """One neuron: matching minus differing edges so far, and the funnel in which its bit is still open.

    reach: the vertical axis goes from -reach to reach.
    """
    seen = np.arange(one.fan_in + 1)
    height = 2 * one.matches - seen
    fires_above, silent_below = 2 * one.threshold - seen, 2 * (one.threshold - one.fan_in) + seen
    stop = one.evaluated
    with drawing(height=2.5, width=3.6) as (figure, axes):
        axes.fill_between(seen, silent_below, fires_above, color=GRID, alpha=0.75, linewidth=0)
        axes.plot(seen[stop:], height[stop:], color=MUTED, linewidth=1, alpha=0.6)
        axes.plot(seen[: stop + 1], height[: stop + 1], color=ACCENT, linewidth=1.9)
        axes.plot(stop, height[stop], "o", color=ACCENT, markersize=6)
        axes.set_ylim(-reach, reach)
        axes.set_xlim(0, one.fan_in)
        axes.set_xlabel("edges seen")
        axes.set_ylabel("matching - differing")
        outcome = "fires" if one.fires else "stays silent"
        return to_inline(
            figure, name, f"Neuron {one.channel} of {one.stage} {outcome}, certain after {stop} of {one.fan_in} edges."
        )


def times(name: str, timings: Timings, images: int) -> str:
    """Bars: median time per image in each mode, with the quartiles as whiskers; timings are of a batch of images."""
    modes = list(timings.seconds)
    medians = [1e6 * timings.median(mode) / images for mode in modes]
    longest = max(1e6 * max(timings.median(mode), timings.quartiles(mode)[1]) / images for mode in modes)
    with drawing(height=0.45 + 0.36 * len(modes)) as (figure, axes):
        for row, (mode, median) in enumerate(zip(modes, medians, strict=True)):
            low, high = (1e6 * seconds / images for seconds in timings.quartiles(mode))
            axes.barh(row, median, height=0.62, color=MUTED if mode == "off" else ACCENT, linewidth=0)
            axes.plot([low, high], [row, row], color=INK, linewidth=1.6, solid_capstyle="butt")
            text = microseconds(median / 1e6)
            axes.annotate(text, (max(median, high), row), (6, 0), textcoords="offset points", va="center", color=INK)
        axes.set_yticks(range(len(modes)), [MODE_LABELS[mode] for mode in modes])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_xlim(0, 1.25 * longest)
        axes.invert_yaxis()
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        described = "; ".join(f"{MODE_LABELS[m]} {microseconds(t / 1e6)}" for m, t in zip(modes, medians, strict=True))
        return to_inline(figure, name, f"Median time per image: {described}.")


def _stage_share(profile: PruningProfile, name: str) -> float:
    return next(1 - stage.edges.pruned_share for stage in profile.stages if stage.name == name)


def _percent_axis(axes: Axes, which: str, decimals: int | None = 0) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(PercentFormatter(1, decimals=decimals))
    axis.grid(True)


def _label_ends(axes: Axes, ends: dict[str, float]) -> None:
    """Write the lines' names right of their ends, moved apart where they would overlap."""
    ordered = sorted(ends.items(), key=lambda end: end[1])
    places = spread([value for _, value in ordered])
    for (label, value), place in zip(ordered, places, strict=True):
        bold = label.startswith("all")
        axes.annotate(
            label,
            (WORDS[-1], value),
            (WORDS[-1] * 1.18, place),
            va="center",
            color=ACCENT if bold else MUTED,
            fontweight="bold" if bold else "normal",
            annotation_clip=False,
        )


def spread(values: Sequence[float], gap: float = LABEL_GAP, top: float = 1.0) -> list[float]:
    """Move ascending values apart to at least `gap`, each as little as possible, and below `top` where possible."""
    blocks: list[tuple[float, int]] = []  # neighbours that touch: mean of value - index * gap, and how many
    for index, value in enumerate(values):
        mean, size = value - index * gap, 1
        while blocks and blocks[-1][0] >= mean:
            other, others = blocks.pop()
            mean, size = (mean * size + other * others) / (size + others), size + others
        blocks.append((mean, size))
    placed = [mean for mean, size in blocks for _ in range(size)]
    limit = top - (len(placed) - 1) * gap
    return [min(mean, limit) + index * gap for index, mean in enumerate(placed)]
