"""Sentences and rows made from the demo's JSON document, the same on the terminal and on the page."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from o3bnn.report.document import Json
from o3bnn.report.tables import ratio

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
    subjects = {"on": "Pruning in every stage is", "auto": f"The automatic choice{automatic_choice(model)} is"}
    sentences = []
    for mode, speed in model["timing"]["speedup_over_off"].items():
        low, high = speed["deciles"]
        clear = not low <= 1 <= high and abs(speed["median"] - 1) >= LEAST_DIFFERENCE
        verdict = ", no clear difference" if not clear else ": slower here" if high < 1 else ""
        after = f"as fast as no pruning{verdict} (four of five rounds: {ratio(low)} to {ratio(high)})."
        sentences.append(SpeedWords(subjects[mode], speed["median"], ratio(speed["median"]), after))
    return sentences


def automatic_choice(model: Json) -> str:
    """In how many stages the automatic mode runs the pruning kernel; empty where the kernels' names do not tell."""
    modes = model["timing"]["modes"]
    kernels = zip(modes["off"]["kernels"], modes["on"]["kernels"], modes["auto"]["kernels"], strict=True)
    different = [(on == auto) for off, on, auto in kernels if off != on]
    return f", pruning in {sum(different)} of {len(different)} stages," if different else ""


def threads_text(threads: int) -> str:
    """'1 thread', '4 threads'."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


def rounds_text(models: Sequence[Json]) -> str:
    """How many rounds each model was timed for."""
    return ", ".join(f"{model['name']}: {model['timing']['rounds']} rounds" for model in models)


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
