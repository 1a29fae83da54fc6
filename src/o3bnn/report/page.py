"""The demo's page: one HTML file that needs nothing else. Needs the `report` extra (jinja2, matplotlib).

Figures come from the JSON document, pictures from the measurements; the template only arranges them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from o3bnn.model.network import ConvStage
from o3bnn.report import neurons, pictures, plots, tables
from o3bnn.report.document import Json
from o3bnn.report.measure import TABLE_WORDS, Measurement
from o3bnn.report.words import speed_words, threads_text

TITLE = "Same bits, fewer edges"
MAP_INK = (61, 111, 224)

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Plots:
    """The plots of one model, as SVG; bars in the order of `TABLE_WORDS`."""

    bars: tuple[Markup, ...]
    by_word: Markup
    by_class: Markup
    times: Markup


@dataclass(frozen=True)
class WalkView:
    """One neuron on its way to a decision."""

    title: str
    text: str
    svg: Markup


@dataclass(frozen=True)
class MapView:
    """Where a stage spent its edges on some images. low, high: the shares that the colours range between."""

    model: str
    stage: str
    size: str
    channels: int
    low: float
    high: float
    cells: tuple["MapCell", ...]


@dataclass(frozen=True)
class MapCell:
    """The map of one image; x, y: its digit's place in the sprite."""

    label: int
    x: int
    y: int
    uri: str
    share: float


@dataclass(frozen=True)
class Said:
    """What one model says about one image."""

    column: int
    model: str
    predicted: int
    right: bool


@dataclass(frozen=True)
class Digit:
    """One image, and what the models say; x, y: its place in the sprite."""

    number: int
    label: int
    x: int
    y: int
    said: tuple[Said, ...]

    @property
    def mistaken(self) -> bool:
        """Whether any model is wrong."""
        return not all(said.right for said in self.said)


def render(doc: Json, measurements: Sequence[Measurement], images: Images, command: str) -> str:
    """Return the page as HTML. images: uint8 [n, height, width, 1], as measured."""
    digits = digit_views(measurements)
    walk_source = measurements[0]
    walks = walk_views(walk_source)
    return _template().render(
        doc=doc,
        title=TITLE,
        command=command,
        css=Markup(_text("demo.css")),
        sprite=pictures.png_uri(pictures.sprite(images[..., 0])),
        sprite_columns=pictures.SPRITE_COLUMNS,
        structure=[structure(model) for model in doc["models"]],
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


def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("percent", "count", "microseconds", "kilobytes", "ratio"):
        environment.filters[name] = getattr(tables, name)
    return environment.from_string(_text("demo.html.j2"))


def _text(name: str) -> str:
    return files("o3bnn").joinpath("report", "templates", name).read_text("utf-8")
