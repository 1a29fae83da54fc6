"""Sentences and rows made from the demo's JSON document, the same on the terminal and on the page."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from o3bnn.report.document import Json
from o3bnn.report.tables import count, microseconds, percent, ratio

Row = tuple[str, str, Json, str]


class SpeedWords(NamedTuple):
    """One sentence about a speed, in three pieces around its figure."""

    before: str
    value: float
    text: str
    after: str

    def __str__(self) -> str:
        return f"{self.before} {self.text} {self.after}"


LEAST_DIFFERENCE = 0.02  # smaller ones are within what a clock on a busy machine tells


def speed_words(model: Json) -> list[SpeedWords]:
    """How the pruning modes compare with no pruning; says so where pruning is slower."""
    subjects = {"on": "Pruning in every stage is", "auto": f"The plan{automatic_choice(model)} is"}
    sentences = []
    for mode, speed in model["timing"]["speedup_over_off"].items():
        low, high = speed["deciles"]
        clear = not low <= 1 <= high and abs(speed["median"] - 1) >= LEAST_DIFFERENCE
        verdict = ", no clear difference" if not clear else ": slower here" if high < 1 else ""
        after = f"as fast as no pruning{verdict} (four of five rounds: {ratio(low)} to {ratio(high)})."
        sentences.append(SpeedWords(subjects[mode], speed["median"], ratio(speed["median"]), after))
    return sentences


def automatic_choice(model: Json) -> str:
    """In how many stages the plan prunes."""
    plan = model["timing"]["plan"]
    return f", pruning in {sum(method != 'dense' for method in plan)} of {len(plan)} stages,"


def threads_text(threads: int) -> str:
    """'1 thread', '4 threads'."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


def structure(model: Json) -> str:
    """The shapes of the image and of all stages' outputs: '28 x 28 → 12 x 12 x 32 → 128 → 10'."""
    shapes = [model["in_shape"], *(stage["out_shape"] for stage in model["stages"])]
    return " → ".join(" x ".join(str(side) for side in shape if side > 1) or "1" for shape in shapes)


def table_rows(profile: Json) -> list[Row]:
    """Rows of a table of edges: name, role, counts and style (empty, or of a total)."""
    rows: list[Row] = [(stage["name"], stage["role"], stage["edges"], "") for stage in profile["stages"]]
    totals: list[tuple[str, Any, str]] = [
        ("binary stages", profile["edges"], "total first"),
        ("all stages", profile["all_stages"], "total"),
    ]
    return rows + [(name, "", edges, style) for name, edges, style in totals]


class Figure(NamedTuple):
    """A figure of the document and how it is written; no figure, only its text, where there is nothing to count."""

    value: float | None
    text: str


class ComparisonRow(NamedTuple):
    """A row of the table that compares two models; part: it is part of the row above."""

    label: str
    values: tuple[Figure, ...]
    difference: Figure | None
    part: bool = False


CAUSE_TEXTS = {
    "pooling": "window already settled",
    "threshold_high": "threshold reached",
    "threshold_low": "threshold out of reach",
    "constant": "constant neuron",
}


def points(difference: float) -> str:
    """A difference of two shares in percentage points: '+12.3 points'."""
    return f"{100 * difference:+.1f} points"


def comparison_rows(found: Json) -> list[ComparisonRow]:
    """The table of two models side by side, from the `comparison` of the document."""
    rows = [_share_row("images recognized", found["accuracy"])]
    for edges in found["edges"]:
        rows.append(_share_row(f"edges pruned, B = {edges['word']}", edges["pruned_share"]))
        for cause, text in CAUSE_TEXTS.items():
            shares = edges["pruned_by"][cause]
            if any(shares):
                figures = tuple(Figure(share, percent(share)) for share in shares)
                rows.append(ComparisonRow(text, figures, None, part=True))
        ceilings = edges["speedup_ceiling"]
        texts = tuple(Figure(value, "unbounded" if value is None else ratio(value)) for value in ceilings)
        rows.append(ComparisonRow(f"ceiling on the speedup, B = {edges['word']}", texts, None))
    for mode, label in (("off", "time per image, pruning off"), ("auto", "time per image, planned")):
        seconds = tuple(Figure(value, microseconds(value)) for value in found["seconds"][mode])
        rows.append(ComparisonRow(label, seconds, None))
    return rows


def _share_row(label: str, pair: Json) -> ComparisonRow:
    values = tuple(Figure(share, percent(share)) for share in pair["values"])
    return ComparisonRow(label, values, Figure(pair["difference"], points(pair["difference"])))


def agreement_text(found: Json) -> str:
    """On how many images the two models are right, and how sure the difference in accuracy is."""
    right, (first, second) = found["right"], found["models"]
    return (
        f"Of the {count(right['images'])} images, both are right on {count(right['both'])}, only {first} on "
        f"{count(right['first_only'])}, only {second} on {count(right['second_only'])}, neither on "
        f"{count(right['neither'])}: the difference in accuracy has a standard error of "
        f"{100 * found['accuracy']['standard_error']:.1f} points."
    )


def training_rows(models: Sequence[Json]) -> list[tuple[str, list[str]]]:
    """What the model files say of their origin: a key, and its value in each model's file (empty where it has none)."""
    keys = dict.fromkeys(key for model in models for key in model["metadata"])
    return [(key, [model["metadata"].get(key, "") for model in models]) for key in keys]
