"""What the demo's page shows besides figures: plots, maps and pictures, ready for the template."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from o3bnn.model.network import ConvStage
from o3bnn.report import neurons, pictures, plots
from o3bnn.report.measure import TABLE_WORDS, Measurement
from o3bnn.report.timing import Timings

MAP_INK = (61, 111, 224)
SHOWN_IMAGES = 256  # the page holds the pixels of so many

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plots:
    """The plots of one model, as SVG; bars in the order of `TABLE_WORDS`."""

    bars: tuple[str, ...]
    by_word: str
    by_class: str
    times: str


@dataclass(frozen=True)
class WalkView:
    """One neuron on its way to a decision."""

    title: str
    text: str
    svg: str


@dataclass(frozen=True)
class Walks:
    """Some neurons of one stage, for the first image of the class `label`."""

    model: str
    stage: str
    label: str
    views: tuple[WalkView, ...]


@dataclass(frozen=True)
class Place:
    """Where an image is in the sprite."""

    x: int
    y: int

    @classmethod
    def of(cls, image: int) -> "Place":
        row, column = divmod(image, pictures.SPRITE_COLUMNS)
        return cls(column, row)


@dataclass(frozen=True)
class MapCell:
    """The map of one image."""

    label: str
    place: Place
    uri: str
    share: float


@dataclass(frozen=True)
class MapView:
    """Where a stage spent its edges on some images.

    size: in words. low, high: the shares that the colours range between.
    """

    model: str
    stage: str
    size: str
    channels: int
    low: float
    high: float
    cells: tuple[MapCell, ...]


@dataclass(frozen=True)
class Said:
    """What one model says about one image."""

    column: int
    model: str
    predicted: str
    right: bool


@dataclass(frozen=True)
class Picture:
    """One image, and what the models say."""

    number: int
    label: str
    place: Place
    said: tuple[Said, ...]

    @property
    def mistaken(self) -> bool:
        """Whether any model is wrong."""
        return not all(said.right for said in self.said)


def model_plots(index: int, m: Measurement, timings: Timings) -> Plots:
    """Draw the plots of model number `index`."""
    return Plots(
        bars=tuple(plots.pruning_bars(f"bars-{index}-{word}", m.profiles[word]) for word in TABLE_WORDS),
        by_word=plots.evaluated_by_word(f"words-{index}", m),
        by_class=plots.shares_by_class(f"classes-{index}", m),
        times=plots.times(f"times-{index}", timings, m.timed_images),
    )


def walks(index: int, m: Measurement) -> Walks | None:
    """Neurons of the first binary stage of model number `index` that is never pooled; None where there are none."""
    place = neurons.first_unpooled(m.network)
    if place is None:
        return None
    stage = m.network.stages[place]
    found = neurons.walks(stage, m.trace.stages[place])
    if not found:
        return None
    reach = max(plots.walk_reach(walk) for walk in found)
    views = tuple(
        WalkView(
            title=f"{'Fires' if walk.fires else 'Silent'} after {walk.evaluated} of {walk.fan_in} edges",
            text=f"Neuron {walk.channel} fires at {walk.threshold} matches or more.",
            svg=plots.walk(f"walk-{index}-{number}", walk, reach),
        )
        for number, walk in enumerate(found)
    )
    return Walks(m.name, stage.name, _label(m, int(m.examples[0])), views)


def map_views(measurements: Sequence[Measurement]) -> list[MapView]:
    """Where each model's first binary convolution spent its edges on the examples, all in the same scale."""
    mapped = [(m, found) for m in measurements if (found := _mapped_stage(m)) is not None]
    values = [neurons.evaluated_shares(stage, m.trace.stages[index]) for m, (index, stage) in mapped]
    low = min((float(shares.min()) for shares, _ in values), default=0.0)
    high = max((float(shares.max()) for shares, _ in values), default=0.0)
    views = []
    for (m, (_, stage)), (shares, totals) in zip(mapped, values, strict=True):
        windows = "pooling windows" if shares.shape[1:] != stage.conv_shape[:2] else "positions"
        views.append(
            MapView(
                model=m.name,
                stage=stage.name,
                size=f"{shares.shape[1]} x {shares.shape[2]} {windows}",
                channels=stage.geometry.out_channels,
                low=low,
                high=high,
                cells=_map_cells(m, pictures.opacity(shares, low, high), totals),
            )
        )
    return views


def _mapped_stage(m: Measurement) -> tuple[int, ConvStage] | None:
    """The first stage that reads bits, and its index, where it is a convolution."""
    index = neurons.first_binary(m.network)
    if index is None:
        return None
    stage = m.network.stages[index]
    return (index, stage) if isinstance(stage, ConvStage) else None


def _map_cells(m: Measurement, maps: pictures.Pixels, totals: FloatArray) -> tuple[MapCell, ...]:
    """The maps, uint8 [examples, height, width], of the examples whose pixels the page holds."""
    return tuple(
        MapCell(_label(m, image), Place.of(image), pictures.png_uri(one, MAP_INK), float(share))
        for image, one, share in zip(m.examples.tolist(), maps, totals, strict=True)
        if image < SHOWN_IMAGES
    )


def picture_views(measurements: Sequence[Measurement]) -> list[Picture]:
    """The first images with what each model says about them."""
    first = measurements[0]
    found = []
    for number, label in enumerate(first.labels[:SHOWN_IMAGES].tolist()):
        said = tuple(
            Said(column, m.name, m.class_names[m.predictions[number]], bool(m.predictions[number] == label))
            for column, m in enumerate(measurements)
        )
        found.append(Picture(number, first.class_names[label], Place.of(number), said))
    return found


def _label(m: Measurement, image: int) -> str:
    return m.class_names[int(m.labels[image])]
