"""What the demo measures of one model: predictions, equality of bits, edges and times."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import numpy.typing as npt

from o3bnn.engine import Engine
from o3bnn.engine.engine import Pruning
from o3bnn.model import Network, reference
from o3bnn.model.edges import Bounds, PruningProfile
from o3bnn.report.equality import check_reference, check_same_bits
from o3bnn.report.timing import Timings, interleaved

MODES: tuple[Pruning, ...] = ("off", "on", "auto")
WORDS = (1, 4, 16, 64, 256)
SHARP_WORDS = tuple(word for word in WORDS if word >= 16)  # narrower, the popcounts cost as much as the edges
TABLE_WORDS = (1, 64)
SWEEP: dict[Bounds, tuple[int, ...]] = {"simple": WORDS[1:], "sharp": SHARP_WORDS}  # B = 1 is counted per image
TIMING_BUDGET_S = 2.5

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Measurement:
    """Everything that one run of the demo found out about one model.

    predictions: int64 [n]. bits_compared: activation bits in which every mode was compared with `==`.
    profiles: by bounds and word width.
    image_shares: float64 [n], the evaluated share of the binary stages' edges of each image at B = 1.
    trace: what the reference computed for `examples`, the images that pictures show.
    timings: seconds per batch of all images, by mode (`off`, `on`, and `auto`: what `Engine` does unless told).
    kernels: what runs each stage, by mode.
    """

    name: str
    network: Network
    file_bytes: int
    labels: Labels
    predictions: Labels
    bits_compared: int
    profiles: Mapping[tuple[Bounds, int], PruningProfile]
    image_shares: npt.NDArray[np.float64]
    examples: Labels
    trace: reference.Trace = field(repr=False)
    timings: Timings
    isa: str
    kernels: Mapping[str, tuple[str, ...]]

    @property
    def wrong(self) -> Labels:
        """Indices of the wrongly classified images."""
        return np.flatnonzero(self.predictions != self.labels)

    @property
    def correct(self) -> int:
        return len(self.labels) - len(self.wrong)

    def profile(self, word: int, bounds: Bounds = "simple") -> PruningProfile:
        return self.profiles[bounds, word]

    def evaluated_share(self, word: int, bounds: Bounds = "simple") -> float:
        """Evaluated share of the binary stages' edges, 0..1."""
        return 1 - self.profile(word, bounds).total("binary").pruned_share


def measure(
    name: str, network: Network, file_bytes: int, images: Images, labels: Labels, threads: int = 1
) -> Measurement:
    """Run one model in every mode; raises `DifferentBitsError` where two modes do not give the same bits."""
    engines: dict[str, Engine] = {mode: Engine(network, threads=threads, pruning=mode) for mode in MODES}
    logits, bits_compared = check_same_bits(network, engines, images)
    examples = first_of_each_class(labels)
    trace = reference.run(network, images[examples])
    check_reference(network, engines["on"], images[examples], trace)
    counting = Engine(network)  # counts do not depend on the number of threads: use all
    per_image = [counting.profile(images[i : i + 1], word=1) for i in range(len(images))]
    profiles: dict[tuple[Bounds, int], PruningProfile] = {("simple", 1): reduce(operator.add, per_image)}
    for bounds, words in SWEEP.items():
        for word in words:
            profiles[bounds, word] = counting.profile(images, word=word, bounds=bounds)
    return Measurement(
        name=name,
        network=network,
        file_bytes=file_bytes,
        labels=labels,
        predictions=logits.argmax(axis=1).astype(np.int64),
        bits_compared=bits_compared,
        profiles=profiles,
        image_shares=np.array([1 - profile.total("binary").pruned_share for profile in per_image]),
        examples=examples,
        trace=trace,
        timings=interleaved({mode: _batch(engine, images) for mode, engine in engines.items()}, TIMING_BUDGET_S),
        isa=counting.isa,
        kernels={mode: engine.kernels for mode, engine in engines.items()},
    )


def first_of_each_class(labels: Labels) -> Labels:
    """Indices of the first image of each class, in order of class: int64 [classes that occur]."""
    return np.unique(labels, return_index=True)[1].astype(np.int64)


def _batch(engine: Engine, images: Images) -> Callable[[], object]:
    return lambda: engine.run(images)
