"""The demo's page: one HTML file that needs nothing else. Needs the `report` extra (jinja2, matplotlib).

Figures come from the JSON document, pictures from the measurements; the template only arranges them.
"""

from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined, Template

from o3bnn.report import pictures, tables
from o3bnn.report.document import Json
from o3bnn.report.measure import Measurement
from o3bnn.report.plots import compared_stages
from o3bnn.report.timing import Timings
from o3bnn.report.views import SHOWN_IMAGES, map_views, model_plots, picture_views, walks
from o3bnn.report.words import (
    agreement_text,
    comparison_rows,
    speed_words,
    structure,
    table_rows,
    threads_text,
    training_rows,
)

TITLE = "Same bits, fewer edges"
SHOWN_MISTAKES = 24

Images = npt.NDArray[np.uint8]


def render(
    doc: Json, measurements: Sequence[Measurement], timings: Sequence[Timings], images: Images, command: str
) -> str:
    """Return the page as HTML. images: uint8 [n, height, width, 1 or 3], as measured."""
    shown = picture_views(measurements)
    mistakes = [picture for picture in shown if picture.mistaken]
    return _template().render(
        doc=doc,
        title=TITLE,
        how_many={1: "One", 2: "Two", 3: "Three"}.get(len(measurements), str(len(measurements))),
        command=command,
        css=_text("demo.css"),
        sprite=pictures.sprite_uri(images[:SHOWN_IMAGES]),
        sprite_columns=pictures.SPRITE_COLUMNS,
        colour=images.shape[3] > 1,
        structure=[structure(model) for model in doc["models"]],
        threads_text=threads_text(doc["threads"]),
        views=[model_plots(index, *pair) for index, pair in enumerate(zip(measurements, timings, strict=True))],
        compared=_compared(doc, measurements),
        walks=[view for index, m in enumerate(measurements) if (view := walks(index, m)) is not None],
        maps=map_views(measurements),
        pictures=shown,
        mistakes=mistakes[:SHOWN_MISTAKES],
        all_mistakes=len(mistakes),
        table_rows=table_rows,
        training_rows=training_rows(doc["models"]),
        share=tables.share,
        speed_words=speed_words,
    )


def _compared(doc: Json, measurements: Sequence[Measurement]) -> Json | None:
    """The table, plots and sentence that set two models side by side, or None where nothing is compared."""
    found = doc["comparison"]
    if found is None:
        return None
    names = found["models"]
    pairs = [[m.profiles[edges["word"]] for m in measurements] for edges in found["edges"]]
    return {
        "rows": comparison_rows(found),
        "plots": [compared_stages(f"compared-{pair[0].word}", names, pair) for pair in pairs],
        "agreement": agreement_text(found),
    }


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("percent", "count", "microseconds", "kilobytes"):
        environment.filters[name] = getattr(tables, name)
    environment.filters["ratio"] = lambda value: "unbounded" if value is None else tables.ratio(value)
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment.from_string(_text("demo.html.j2"))


def _text(name: str) -> str:
    return files("o3bnn").joinpath("report", "templates", name).read_text("utf-8")
