"""The oracle that counts edges: dense, evaluated and pruned, per stage and cause, for any word width and both bounds.

Definitions (the same for every back end that claims a count):

1. The edges of a full kernel, in (kernel row, kernel column, channel) order, are cut every B edges into edge words. At
   a border a word holds only its existing edges; a word without any does not exist.
2. A neuron whose threshold is met or missed by every score of its border class is constant: no edge is evaluated.
3. Otherwise its words are evaluated in order. With n edges seen and partial score s, it fires as soon as s + L >= t
   (`threshold_high`) and is silent as soon as s + U < t (`threshold_low`), where L and U bound what remains:

       bounds   bits in (score = matches)                 integers in (score = sum, |x| <= A)
       simple   L = 0, U = K - n                          L = -(K - n) A, U = (K - n) A
       sharp    L = sum |x + w - b|, U = sum b - |x - w|  L = -sum |x|,   U = sum |x|

   over the remaining words of b edges, x ones in the input and w ones in the weights. Sharp bounds need the popcount of
   every word beforehand, so they are also tried before the first word.
4. Windows are taken in raster order, channel by channel. A window that is not settled visits those of its neurons that
   were not visited yet, in raster order, until it is settled. A visited neuron with the decisive bit settles every
   window that contains it. A neuron that is never visited is pruned by `pooling`, unless it is constant.
5. Neurons that no window reads do not exist. The output stage evaluates every edge.

dense = evaluated + constant + threshold_high + threshold_low + pooling.
"""

import operator
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from typing import Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from o3bnn.errors import InputError
from o3bnn.model import reference
from o3bnn.model.network import DenseStage, Network, Stage

Bounds = Literal["simple", "sharp"]
Role = Literal["input", "binary", "output"]
IntArray = npt.NDArray[np.int64]

MAX_WORD = 1 << 20


@dataclass(frozen=True)
class EdgeCounts:
    """Numbers of edges; see the module for what each one means."""

    dense: int = 0
    evaluated: int = 0
    constant: int = 0
    threshold_high: int = 0
    threshold_low: int = 0
    pooling: int = 0

    def __add__(self, other: "EdgeCounts") -> "EdgeCounts":
        return EdgeCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def pruned(self) -> int:
        return self.dense - self.evaluated

    @property
    def pruned_share(self) -> float:
        """Pruned share of the dense edges, 0..1; 0 where there are none."""
        return self.pruned / self.dense if self.dense else 0.0

    def to_dict(self) -> dict[str, int | dict[str, int]]:
        """As JSON: dense, evaluated and pruned_by."""
        causes = {f.name: int(getattr(self, f.name)) for f in fields(self)[2:]}
        return {"dense": int(self.dense), "evaluated": int(self.evaluated), "pruned_by": causes}


@dataclass(frozen=True)
class StageEdges:
    """Counts of one stage. kind: conv or dense. role: input (integers in), binary (hidden, bits in) or output."""

    name: str
    kind: Literal["conv", "dense"]
    role: Role
    edges: EdgeCounts


@dataclass(frozen=True)
class PruningProfile:
    """Counts of a whole network over some images, at one word width; profiles of further images add up."""

    word: int
    bounds: Bounds
    images: int
    stages: tuple[StageEdges, ...]

    def __add__(self, other: "PruningProfile") -> "PruningProfile":
        if (self.word, self.bounds, self._layout) != (other.word, other.bounds, other._layout):
            raise InputError("only profiles of one network, word width and kind of bounds can be added")
        stages = (
            StageEdges(a.name, a.kind, a.role, a.edges + b.edges)
            for a, b in zip(self.stages, other.stages, strict=True)
        )
        return PruningProfile(self.word, self.bounds, self.images + other.images, tuple(stages))

    @property
    def _layout(self) -> tuple[tuple[str, str, str], ...]:
        return tuple((stage.name, stage.kind, stage.role) for stage in self.stages)

    def total(self, role: Role | None = None) -> EdgeCounts:
        """Sum over the stages of one role, or over all. The headline is `total("binary")`."""
        return sum((stage.edges for stage in self.stages if role in (None, stage.role)), EdgeCounts())

    def to_dict(self) -> dict[str, object]:
        """As JSON: word, edges (binary stages), all_stages, stages."""
        return {
            "word": self.word,
            "edges": self.total("binary").to_dict(),
            "all_stages": self.total().to_dict(),
            "stages": [
                {"name": s.name, "kind": s.kind, "role": s.role, "edges": s.edges.to_dict()} for s in self.stages
            ],
        }


def check_word(word: SupportsIndex, bounds: str) -> int:
    """Return the word width as an int; raises `InputError` unless it is 1..2^20 and bounds is `simple` or `sharp`."""
    try:
        width = 0 if isinstance(word, bool | np.bool_) else operator.index(word)
    except TypeError:
        width = 0
    if not 1 <= width <= MAX_WORD:
        raise InputError(f"word width {word!r} is not an integer in 1..{MAX_WORD}")
    if bounds not in ("simple", "sharp"):
        raise InputError(f"bounds {bounds!r} are neither 'simple' nor 'sharp'")
    return width


def count(
    network: Network,
    images: npt.NDArray[np.uint8],
    *,
    word: int = 1,
    bounds: Bounds = "simple",
    constants_first: bool = False,
) -> PruningProfile:
    """Count the edges of uint8 images [n, height, width, channels] by the definitions of this module.

    constants_first: constant neurons settle windows before the walk comes to them, as in the accelerator.
    """
    word = check_word(word, bounds)
    trace = reference.run(network, images)
    stages = [stage_entry(network, index, EdgeCounts()) for index in range(len(network.stages) + 1)]
    for index, (stage, stage_trace) in enumerate(zip(network.stages, trace.stages, strict=True)):
        counts = count_stage(stage, stage_trace, word, bounds, network.magnitude(stage), constants_first)
        stages[index] = stage_entry(network, index, counts)
    dense = len(images) * network.output.in_features * network.output.classes
    stages[-1] = stage_entry(network, len(network.stages), EdgeCounts(dense, dense))
    return PruningProfile(word, bounds, len(images), tuple(stages))


def stage_entry(network: Network, index: int, edges: EdgeCounts) -> StageEdges:
    """Counts labelled with the name, kind and role of stage `index`; the output stage comes last."""
    if index == len(network.stages):
        return StageEdges(network.output.name, "dense", "output", edges)
    stage = network.stages[index]
    kind: Literal["conv", "dense"] = "dense" if isinstance(stage, DenseStage) else "conv"
    return StageEdges(stage.name, kind, "input" if stage.integer_input else "binary", edges)


def count_stage(
    stage: Stage,
    trace: reference.StageTrace,
    word: int,
    bounds: Bounds,
    magnitude: int = 1,
    constants_first: bool = False,
) -> EdgeCounts:
    """Count one stage from what the reference computed for it; magnitude is the largest |input| of an integer stage."""
    g = stage.geometry
    n, shape = len(trace.operand), stage.conv_shape
    classes = g.class_map
    fan_in = np.broadcast_to(g.class_fan_in[classes][None, :, :, None], (n, *shape))
    constant = np.broadcast_to((stage.constant(magnitude) >= 0)[classes][None], (n, *shape))
    visited, read = visit(stage, trace.fired, constant & constants_first)
    spent = np.zeros((n, *shape), np.int64)
    for image, position, evaluated in spent_edges(stage, trace, word, bounds, magnitude):
        spent.reshape(n, -1, g.out_channels)[image, position] = evaluated
    live = visited & ~constant
    high = live & (trace.fired == 1)
    low = live & (trace.fired == 0)
    return EdgeCounts(
        dense=int(fan_in[read].sum()),
        evaluated=int(spent[live].sum()),
        constant=int(fan_in[constant & read].sum()),
        threshold_high=int((fan_in - spent)[high].sum()),
        threshold_low=int((fan_in - spent)[low].sum()),
        pooling=int(fan_in[read & ~visited & ~constant].sum()),
    )


def visit(
    stage: Stage, fired: npt.NDArray[np.uint8], known: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which neurons are visited, and which are read by some window: bool [n, out_height, out_width, channels] each.

    known: of the same shape, those whose bits count from the start; they are among the visited ones.
    """
    if stage.pooling is None:
        everything = np.ones(fired.shape, np.bool_)
        return everything, everything
    (rows, columns), (down, right) = stage.pooling.size, stage.pooling.stride
    height, width, _ = stage.out_shape
    visited, read = np.zeros(fired.shape, np.bool_), np.zeros(fired.shape, np.bool_)
    if known is not None:
        visited |= known
    decides = fired == stage.decisive_bit
    for top in range(0, height * down, down):
        for left in range(0, width * right, right):
            window = (slice(None), slice(top, top + rows), slice(left, left + columns))
            read[window] = True
            settled = (visited[window] & decides[window]).any(axis=(1, 2))
            for y in range(top, top + rows):
                for x in range(left, left + columns):
                    asked = ~settled & ~visited[:, y, x]
                    visited[:, y, x] |= asked
                    settled |= asked & decides[:, y, x]
    return visited, read


def spent_edges(
    stage: Stage, trace: reference.StageTrace, word: int, bounds: Bounds, magnitude: int
) -> Iterator[tuple[int, int, IntArray]]:
    """Edges that each neuron evaluates by rules 2 and 3 on its own: (image, position, int64 [channels])."""
    g = stage.geometry
    edges, exists = reference.gather_edges(g, trace.operand)
    weights = stage.weight_bits().astype(np.int64).reshape(g.groups, -1, g.full_fan_in)
    thresholds = stage.thresholds[g.class_map].reshape(-1, g.out_channels).astype(np.int64)
    for image in range(len(edges)):
        for position in range(edges.shape[1]):
            present = np.flatnonzero(exists[position])
            inputs = edges[image, position][:, None, present].astype(np.int64)
            walk = _Walk(inputs, weights[:, :, present], present // word, stage.integer_input)
            low, high = walk.bounds(bounds, magnitude)
            yield image, position, walk.spent(thresholds[position].reshape(g.groups, -1), low, high).reshape(-1)


class _Walk:
    """The existing edges of the neurons at one position, summed word by word.

    inputs: int64 [groups, 1, K]. weights: int64 [groups, channels of a group, K], both 0/1 bits unless `integers`.
    word_of: which edge word each edge belongs to.
    """

    def __init__(self, inputs: IntArray, weights: IntArray, word_of: IntArray, integers: bool) -> None:
        self.inputs, self.weights, self.integers = inputs, weights, integers
        self.starts = np.flatnonzero(np.diff(word_of, prepend=-1))
        gains = inputs * (2 * weights - 1) if integers else (inputs == weights).astype(np.int64)
        self.edges = self._after_each_word(np.ones_like(inputs))
        self.scores = self._after_each_word(gains)

    def _word_sums(self, values: IntArray) -> IntArray:
        """Sum over the edges of each word: [..., K] -> [..., words]."""
        if not len(self.starts):
            return np.zeros((*values.shape[:-1], 0), np.int64)
        return np.add.reduceat(values, self.starts, axis=-1)

    def _after_each_word(self, values: IntArray) -> IntArray:
        """Running sum at 0, 1, 2 ... words: [..., K] -> [..., words + 1]."""
        sums = self._word_sums(values).cumsum(axis=-1)
        return np.concatenate([np.zeros((*sums.shape[:-1], 1), np.int64), sums], axis=-1)

    def bounds(self, kind: Bounds, magnitude: int) -> tuple[IntArray, IntArray]:
        """Least and greatest score of what remains after 0, 1, 2 ... words."""
        if kind == "simple":
            remaining = self.edges[..., -1:] - self.edges
            return (-remaining * magnitude, remaining * magnitude) if self.integers else (0 * remaining, remaining)
        if self.integers:
            total = self._after_each_word(np.abs(self.inputs))
            return total - total[..., -1:], total[..., -1:] - total
        b = self._word_sums(np.ones_like(self.inputs))
        x, w = self._word_sums(self.inputs), self._word_sums(self.weights)
        return _remaining(np.abs(x + w - b)), _remaining(b - np.abs(x - w))

    def spent(self, thresholds: IntArray, low: IntArray, high: IntArray) -> IntArray:
        """Edges seen when the first decision is possible: int64 [groups, channels of a group]."""
        t = thresholds[..., None]
        decided = (self.scores + low >= t) | (self.scores + high < t)
        return np.take_along_axis(np.broadcast_to(self.edges, decided.shape), decided.argmax(-1)[..., None], -1)[..., 0]


def _remaining(per_word: IntArray) -> IntArray:
    """Sum over the words still to come after 0, 1, 2 ... words: [..., words] -> [..., words + 1]."""
    total = per_word.cumsum(axis=-1)
    before = np.concatenate([np.zeros((*total.shape[:-1], 1), np.int64), total], axis=-1)
    return np.asarray(before[..., -1:] - before, np.int64)
