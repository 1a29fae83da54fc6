"""What the demo's page shows besides figures: plots, maps and digits, ready for the template."""

from collections.abc import Sequence
from dataclasses import dataclass

from o3bnn.model.network import ConvStage
from o3bnn.report import neurons, pictures, plots
from o3bnn.report.measure import TABLE_WORDS, Measurement

MAP_INK = (61, 111, 224)


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

    stage: str
    title: str
    text: str
    svg: str


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


def model_plots(index: int, m: Measurement) -> Plots:
    """Draw the plots of model number `index`."""
    return Plots(
        bars=tuple(plots.pruning_bars(f"bars-{index}-{word}", m.profile(word)) for word in TABLE_WORDS),
        by_word=plots.evaluated_by_word(f"words-{index}", m),
        by_class=plots.shares_by_class(f"classes-{index}", m),
        times=plots.times(f"times-{index}", m),
    )


def walk_views(m: Measurement) -> list[WalkView]:
    """Some neurons of the model's first binary stage that is never pooled, for the first example; may be empty."""
    index = neurons.first_unpooled(m.network)
    if index is None:
        return []
    stage, trace = m.network.stages[index], m.trace.stages[index]
    views = []
    walks = neurons.walks(stage, trace)
    reach = max((plots.walk_reach(walk) for walk in walks), default=0.0)
    for number, walk in enumerate(walks):
        outcome = "Fires" if walk.fires else "Silent"
        views.append(
            WalkView(
                stage=stage.name,
                title=f"{outcome} after {walk.evaluated} of {walk.fan_in} edges",
                text=f"Neuron {walk.channel} of stage {walk.stage} fires at {walk.threshold} matches or more.",
                svg=plots.walk(f"walk-{number}", walk, reach),
            )
        )
    return views


def map_view(m: Measurement) -> MapView | None:
    """Where the model's first binary convolution spent its edges on the examples, or None where it has none."""
    index = neurons.first_binary(m.network)
    if index is None or not isinstance(m.network.stages[index], ConvStage):
        return None
    stage = m.network.stages[index]
    shares, totals = neurons.evaluated_shares(stage, m.trace.stages[index])
    low, high = float(shares.min()), float(shares.max())
    windows = "pooling windows" if shares.shape[1:] != stage.conv_shape[:2] else "positions"
    size = f"{shares.shape[1]} x {shares.shape[2]} {windows}"
    cells = [
        MapCell(
            label=int(m.labels[image]),
            x=int(image) % pictures.SPRITE_COLUMNS,
            y=int(image) // pictures.SPRITE_COLUMNS,
            uri=pictures.png_uri(pictures.opacity(one, low, high), MAP_INK),
            share=float(share),
        )
        for image, one, share in zip(m.examples, shares, totals, strict=True)
    ]
    return MapView(m.name, stage.name, size, stage.geometry.out_channels, low, high, tuple(cells))


def digit_views(measurements: Sequence[Measurement]) -> list[Digit]:
    """Every image with what each model says about it."""
    labels = measurements[0].labels
    columns = pictures.SPRITE_COLUMNS
    digits = []
    for number, label in enumerate(labels):
        said = tuple(
            Said(column, m.name, int(m.predictions[number]), bool(m.predictions[number] == label))
            for column, m in enumerate(measurements)
        )
        digits.append(Digit(number, int(label), number % columns, number // columns, said))
    return digits
