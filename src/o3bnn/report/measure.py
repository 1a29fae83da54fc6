"""What the demo measures of one model: predictions, equality of bits, edges and times."""

import operator
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import numpy.typing as npt

from o3bnn.engine import Engine, EnginePlan, plan_engine
from o3bnn.model import Network, reference
from o3bnn.model.edges import Bounds, PruningProfile
from o3bnn.report.equality import check_reference, check_same_bits
from o3bnn.report.timing import Timings, interleaved

TABLE_WORDS = (1, 64)
WORDS = (1, 4, 16, 64, 256)
SHARP_WORDS = tuple(word for word in WORDS if word >= 16)  # narrower, the popcounts cost as much as the edges
SWEPT_IMAGES = 50  # counting at every width takes most of the demo's time
PLANNED_IMAGES = 8
PLAN_SECONDS = 2.0
TIMED_IMAGES = 100
TIMING_BUDGET_S = 2.5

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Sweep = Mapping[tuple[Bounds, int], PruningProfile]


@dataclass(frozen=True, eq=False)
class Measurement:
    """Everything that one run of the demo found out about one model.

    class_names: one a label. predictions: int64 [n]. bits_compared: activation bits in which every mode was compared
    with `==`.
    profiles: counts over all images, simple bounds, by word width (TABLE_WORDS).
    sweep: counts over the first images, by bounds and word width.
    image_shares: float64 [n], the evaluated share of the binary stages' edges of each image at B = 1.
    trace: what the reference computed for `examples`, the images that pictures show.
    plan: how `auto` runs the stages, as timed on this machine. engines: by mode (`off`, `on` and `auto`).
    """

    name: str
    network: Network
    class_names: tuple[str, ...]
    file_bytes: int
    labels: Labels
    predictions: Labels
    bits_compared: int
    profiles: Mapping[int, PruningProfile]
    sweep: Sweep
    image_shares: npt.NDArray[np.float64]
    examples: Labels
    trace: reference.Trace = field(repr=False)
    plan: EnginePlan
    engines: Mapping[str, Engine] = field(repr=False)

    @property
    def wrong(self) -> Labels:
        """Indices of the wrongly classified images."""
        return np.flatnonzero(self.predictions != self.labels)

    @property
    def correct(self) -> int:
        return len(self.labels) - len(self.wrong)

    @property
    def isa(self) -> str:
        return self.plan.isa

    @property
    def timed_images(self) -> int:
        """How many images the batch holds on which the model is timed."""
        return min(len(self.labels), TIMED_IMAGES)

    def swept_share(self, word: int, bounds: Bounds = "simple") -> float:
        """Evaluated share of the binary stages' edges of the first images, 0..1."""
        return 1 - self.sweep[bounds, word].total("binary").pruned_share


def measure(
    name: str,
    network: Network,
    file_bytes: int,
    images: Images,
    labels: Labels,
    class_names: tuple[str, ...],
    threads: int = 1,
) -> Measurement:
    """Run one model in every mode; raises `DifferentBitsError` where two modes do not give the same bits.

    images, labels: uint8 [n, height, width, channels] and int64 [n]. threads: of the engines that are timed.
    """
    plan = plan_engine(network, images[:PLANNED_IMAGES], threads=threads, seconds=PLAN_SECONDS)
    engines = {
        "off": Engine(network, threads=threads, pruning="off"),
        "on": Engine(network, threads=threads, pruning="on"),
        "auto": Engine(network, threads=threads, plan=plan),
    }
    logits, bits_compared = check_same_bits(network, engines, images)
    examples = first_of_each_class(labels)
    trace = reference.run(network, images[examples])
    check_reference(network, engines["on"], images[examples], trace)
    counting = Engine(network)  # counts do not depend on the number of threads: use all
    per_image = _count_each(network, images, counting.threads)
    sweep = _sweep(counting, images[:SWEPT_IMAGES], per_image)
    rest = counting.profile(images[SWEPT_IMAGES:], word=64)
    return Measurement(
        name=name,
        network=network,
        class_names=class_names,
        file_bytes=file_bytes,
        labels=labels,
        predictions=logits.argmax(axis=1).astype(np.int64),
        bits_compared=bits_compared,
        profiles={1: reduce(operator.add, per_image), 64: sweep["simple", 64] + rest},
        sweep=sweep,
        image_shares=np.array([1 - profile.total("binary").pruned_share for profile in per_image]),
        examples=examples,
        trace=trace,
        plan=plan,
        engines=engines,
    )


def time_together(measurements: Sequence[Measurement], images: Images) -> list[Timings]:
    """Seconds per batch of the first images by mode, for each model; all models and modes are timed in turns."""
    runs = {
        f"{m.name} {mode}": _batch(engine, images[: m.timed_images])
        for m in measurements
        for mode, engine in m.engines.items()
    }
    seconds = interleaved(runs, TIMING_BUDGET_S * len(measurements)).seconds
    return [Timings({mode: seconds[f"{m.name} {mode}"] for mode in m.engines}) for m in measurements]


def first_of_each_class(labels: Labels) -> Labels:
    """Indices of the first image of each class, in order of class: int64 [classes that occur]."""
    return np.unique(labels, return_index=True)[1].astype(np.int64)


def _count_each(network: Network, images: Images, threads: int) -> list[PruningProfile]:
    """Counts of every single image at B = 1; the engine's own threads share the images of a call only."""
    engine = Engine(network, threads=1)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda image: engine.profile(image[None], word=1), images))


def _sweep(engine: Engine, images: Images, per_image: list[PruningProfile]) -> Sweep:
    """Counts over some images at every width; per_image: those of each image at B = 1, images that follow included."""
    profiles: dict[tuple[Bounds, int], PruningProfile] = {("simple", 1): reduce(operator.add, per_image[: len(images)])}
    for word in WORDS[1:]:
        profiles["simple", word] = engine.profile(images, word=word)
    for word in SHARP_WORDS:
        profiles["sharp", word] = engine.profile(images, word=word, bounds="sharp")
    return profiles


def _batch(engine: Engine, images: Images) -> Callable[[], object]:
    return lambda: engine.run(images)
