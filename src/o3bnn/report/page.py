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
from o3bnn.report.views import digit_views, map_view, model_plots, walk_views
from o3bnn.report.words import rounds_text, speed_words, structure, table_rows, threads_text

TITLE = "Same bits, fewer edges"

Images = npt.NDArray[np.uint8]


def render(doc: Json, measurements: Sequence[Measurement], images: Images, command: str) -> str:
    """Return the page as HTML. images: uint8 [n, height, width, 1], as measured."""
    digits = digit_views(measurements)
    walk_source = measurements[0]
    walks = walk_views(walk_source)
    return _template().render(
        doc=doc,
        title=TITLE,
        how_many={1: "One", 2: "Two", 3: "Three"}.get(len(measurements), str(len(measurements))),
        command=command,
        css=_text("demo.css"),
        sprite=pictures.png_uri(pictures.sprite(images[..., 0])),
        sprite_columns=pictures.SPRITE_COLUMNS,
        structure=[structure(model) for model in doc["models"]],
        rounds_text=rounds_text(doc["models"]),
        threads_text=threads_text(doc["threads"]),
        views=[model_plots(index, measurement) for index, measurement in enumerate(measurements)],
        walks=walks,
        walks_from=f"{walk_source.name}, stage {walks[0].stage}" if walks else "",
        walks_digit=int(walk_source.labels[walk_source.examples[0]]),
        maps=[view for measurement in measurements if (view := map_view(measurement)) is not None],
        digits=digits,
        mistakes=[digit for digit in digits if digit.mistaken],
        table_rows=table_rows,
        share=tables.share,
        speed_words=speed_words,
    )


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("percent", "count", "microseconds", "kilobytes"):
        environment.filters[name] = getattr(tables, name)
    environment.filters["ratio"] = lambda value: "unbounded" if value is None else tables.ratio(value)
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    return environment.from_string(_text("demo.html.j2"))


def _text(name: str) -> str:
    return files("o3bnn").joinpath("report", "templates", name).read_text("utf-8")
