"""Tensors that depend on the image, as what they really are: a function of one integer, laid out in some order.

A `Source` yields integers: the image its pixel values, a layer its sums, one at every position of a map. Between two
layers a graph applies elementwise operators, max-pools, and operators that only move elements. So every element of a
tensor is f(integer of one position), where f depends on the channel (and, near a padded border, on the border class):

    Symbol = (source, which step of f it has reached, which position each element comes from)

Moving operators (Transpose, Reshape, Flatten, ...) are applied to the array of positions by NumPy itself, so no layout
has to be recognized. Elementwise operators append a step. Once the next layer reads the symbol, f is evaluated over
every integer that can occur: that decides thresholds, without any assumption about the operators in between.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.onnx.arithmetic import Prepared
from o3bnn.compiler.onnx.graph import Array, Node
from o3bnn.errors import UnsupportedGraphError
from o3bnn.model import Pooling
from o3bnn.model.geometry import output_size

Ints = npt.NDArray[np.int64]
MapShape = tuple[int, int, int]

PADDED = -1
MAX_ELEMENTS = 1 << 27


class Parameter(NamedTuple):
    """A constant argument of a step: one value a channel, or a border class and channel: [classes or 1, channels]."""

    values: Array


class Step(NamedTuple):
    """One elementwise operator: arguments are the index of an earlier step, or a parameter."""

    function: Callable[..., Array]
    arguments: tuple[int | Parameter, ...]
    node: Node


class Pool(NamedTuple):
    """A max-pool over what a step yields."""

    step: int
    pooling: Pooling
    node: Node


@dataclass(eq=False)
class Source:
    """Where integers come from, and what happens to them.

    shape: (height, width, channels) of the map. class_map: border class of every position, int64 [height, width].
    steps: step 0 is the integer itself, as the float32 (or pixel type) that the graph sees. pools: in order.
    """

    node: Node | None
    shape: MapShape
    class_map: Ints
    steps: list[Step | None] = field(default_factory=lambda: [None])
    pools: list[Pool] = field(default_factory=list)

    @property
    def channels(self) -> int:
        return self.shape[2]

    def map_shape(self, level: int) -> MapShape:
        """Shape of the map after the first `level` pools."""
        height, width, channels = self.shape
        for pool in self.pools[:level]:
            height = output_size(height, pool.pooling.size[0], pool.pooling.stride[0])
            width = output_size(width, pool.pooling.size[1], pool.pooling.stride[1])
        return height, width, channels

    def evaluate(self, step: int, base: Array, lane: Callable[[Array], Array]) -> Array:
        """Value of a step for integers [channels, n]; `lane` picks the values of a parameter, [channels, 1]."""
        values: dict[int, Array] = {0: base}
        for index in sorted(self._needed(step)):
            current = self.steps[index]
            assert current is not None
            arguments = [lane(a.values) if isinstance(a, Parameter) else values[a] for a in current.arguments]
            try:
                with np.errstate(all="ignore"):
                    result = np.asarray(current.function(*arguments))
            except (ValueError, TypeError, IndexError, ArithmeticError) as error:
                raise current.node.error(error) from error
            if result.dtype.kind == "f" and np.any(np.isnan(result)):
                raise current.node.error("its result is not a number for some value that can occur")
            values[index] = result
        return np.broadcast_to(values[step], base.shape)

    def _needed(self, step: int) -> set[int]:
        needed, open_steps = set[int](), [step]
        while open_steps:
            index = open_steps.pop()
            current = self.steps[index]
            if current is None or index in needed:
                continue
            needed.add(index)
            open_steps.extend(a for a in current.arguments if not isinstance(a, Parameter))
        return needed


@dataclass(frozen=True, eq=False)
class Symbol:
    """A tensor that depends on the image.

    name: of the tensor in the graph. step: which step of the source it holds. level: how many pools it is after.
    index: of the tensor's shape: the position in the (row, column, channel) order of the map that each element comes
    from, plus sample * map size; PADDED where a Pad put the constant `padding`.
    """

    name: str
    source: Source
    step: int
    level: int
    index: Ints
    padding: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.index.shape

    @property
    def map_shape(self) -> MapShape:
        return self.source.map_shape(self.level)

    @property
    def map_size(self) -> int:
        height, width, channels = self.map_shape
        return height * width * channels

    def moved(self, name: str, index: Array) -> "Symbol":
        """The same elements in another arrangement."""
        return Symbol(name, self.source, self.step, self.level, np.ascontiguousarray(index), self.padding)

    def apply(self, node: Node, prepared: Prepared, inputs: Sequence["Symbol | Array | None"]) -> "Symbol":
        """The symbol after an elementwise operator on itself, constants and other symbols of the same arrangement."""
        if self.padding is not None:
            raise node.error("it computes on padded values: only a Conv may follow a Pad")
        arguments: list[int | Parameter] = []
        for argument in prepared.arguments:
            value = inputs[argument] if isinstance(argument, int) else argument
            if isinstance(value, Symbol):
                self._check_same_arrangement(node, value)
                arguments.append(value.step)
            else:
                assert value is not None
                arguments.append(self._parameter(node, value))
        self.source.steps.append(Step(prepared.function, tuple(arguments), node))
        return Symbol(node.outputs[0], self.source, len(self.source.steps) - 1, self.level, self.index)

    def _check_same_arrangement(self, node: Node, other: "Symbol") -> None:
        same = other.source is self.source and other.level == self.level and other.shape == self.shape
        if not same or not np.array_equal(other.index, self.index):
            raise node.error(
                f"it combines {self.name!r} and {other.name!r}, which come from different layers or positions: a "
                f"binary network here is one line of layers, without branches that join"
            )

    def _parameter(self, node: Node, value: Array) -> Parameter:
        """A constant broadcast against this tensor, as one value for each channel or border class and channel."""
        if value.size == 1 and value.ndim <= len(self.shape):
            return Parameter(value.reshape(1, 1))
        if value.ndim > len(self.shape) or np.broadcast_shapes(self.shape, value.shape) != self.shape:
            raise node.error(f"a constant of shape {list(value.shape)} does not suit an input of {list(self.shape)}")
        lane, lanes = self._lanes()
        spread = np.broadcast_to(value, self.shape).reshape(-1)
        which = lane[self.index.reshape(-1) % self.map_size]
        found = np.zeros(lanes, value.dtype)
        found[which] = spread
        if not np.array_equal(found[which], spread):
            raise node.error(
                "its constant differs between positions of one channel: a stage has one threshold a channel "
                "(and border class)"
            )
        return Parameter(found.reshape(-1, self.source.channels))

    def _lanes(self) -> tuple[Ints, int]:
        """For every position its lane (border class * channels + channel), and how many lanes there are."""
        channels = self.source.channels
        if self.level:
            return np.arange(self.map_size) % channels, channels
        classes = self.source.class_map.reshape(-1, 1)
        return (classes * channels + np.arange(channels)).reshape(-1), (int(classes.max()) + 1) * channels

    def samples(self, node: Node) -> Ints:
        """Positions of one sample, [...] without the batch axis; every sample must be arranged alike."""
        if not self.shape:
            raise node.error("its input is a scalar: an axis for the images is missing")
        offsets = np.arange(self.shape[0]).reshape(-1, *(1,) * (len(self.shape) - 1)) * self.map_size
        first: Ints = self.index[0]
        expected = np.where(first == PADDED, PADDED, first + offsets)
        if not np.array_equal(self.index, expected) or np.any(first >= self.map_size):
            raise node.error(
                f"its input of shape {list(self.shape)} mixes images: the first axis must count the images"
            )
        return first

    def planes(self, node: Node) -> tuple[int, int, int, int]:
        """Padding (top, left, bottom, right) of a [batch, channels, height, width] tensor that is the whole map."""
        if len(self.shape) != 4:
            raise node.error(f"its input has shape {list(self.shape)}: it needs [images, channels, height, width]")
        first = self.samples(node)
        top, left, bottom, right = 0, 0, 0, 0
        if self.padding is not None:
            inside = np.argwhere(first[0] != PADDED)
            if not len(inside):
                raise node.error("its input is nothing but padding")
            (top, left), (last_row, last_column) = inside.min(axis=0), inside.max(axis=0)
            bottom, right = first.shape[1] - 1 - last_row, first.shape[2] - 1 - last_column
            first = first[:, top : last_row + 1, left : last_column + 1]
        height, width, channels = self.map_shape
        if not np.array_equal(first, planar_index(self.map_shape)):
            raise node.error(
                f"its input, of {list(first.shape)} (channels, height, width), is not the map of {height} x {width} "
                f"with {channels} channels that the layer before yields, in its order"
            )
        return int(top), int(left), int(bottom), int(right)

    def features(self, node: Node) -> Ints:
        """Which position of the map each element of a flat [batch, features] tensor is: a permutation of the map."""
        first = self.samples(node).reshape(-1)
        if self.padding is not None or not np.array_equal(np.sort(first), np.arange(self.map_size)):
            raise node.error(
                f"its {first.size} inputs are not the {self.map_size} elements of the map before, each of them once"
            )
        return first


def planar_index(shape: MapShape) -> Ints:
    """Positions of a map in (channel, row, column) order: int64 [channels, height, width]."""
    height, width, channels = shape
    return np.arange(height * width * channels).reshape(height, width, channels).transpose(2, 0, 1)


def batch_index(first: Ints, batch: int, size: int) -> Ints:
    """The positions of one sample, repeated for a batch: int64 [batch, ...]."""
    if batch * first.size > MAX_ELEMENTS:
        raise UnsupportedGraphError(f"a tensor has more than {MAX_ELEMENTS} elements")
    return first[None] + (np.arange(batch) * size).reshape(-1, *(1,) * first.ndim)


def max_pool(symbol: Symbol, node: Node, pooling: Pooling) -> Symbol:
    """A max-pool over the whole map."""
    if symbol.padding is not None:
        raise node.error("it pools padded values: a pool without padding is supported")
    symbol.planes(node)
    source, batch = symbol.source, symbol.shape[0]
    if symbol.level != len(source.pools):
        raise node.error("the tensor before it is pooled in two ways: a network here is one line of layers")
    height, width, _ = symbol.map_shape
    if height < pooling.size[0] or width < pooling.size[1]:
        raise node.error(f"its window {pooling.size} is larger than the map of {height} x {width}")
    source.pools.append(Pool(symbol.step, pooling, node))
    shape = source.map_shape(len(source.pools))
    index = batch_index(planar_index(shape), batch, shape[0] * shape[1] * shape[2])
    return Symbol(node.outputs[0], source, symbol.step, len(source.pools), index)


def lanes_of(block: int, channels: slice) -> Callable[[Array], Array]:
    """Picks a parameter's values for one border class and some channels: [classes or 1, channels or 1] -> [c, 1]."""

    def pick(values: Array) -> Array:
        row: Array = values[block if len(values) > 1 else 0]
        return (row if len(row) == 1 else row[channels])[:, None]

    return pick


def chunks(channels: int, columns: int, limit: int = 1 << 22) -> Iterator[slice]:
    """Slices of channels such that each has at most about `limit` values of `columns` a channel."""
    size = max(1, limit // max(1, columns))
    return (slice(start, min(channels, start + size)) for start in range(0, channels, size))
