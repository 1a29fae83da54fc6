"""Integer thresholds of a layer, by evaluating the graph's own arithmetic on every sum that can occur.

For each border class and channel the chain of float32 operators between a layer and the next one is run over all of
its sums, so nothing has to be assumed about it: it must yield two values, and change at most once. With v0 < v1 these
values (bit 0 and bit 1), a channel that changes from v0 to v1 fires from there on; one that changes from v1 to v0 gets
flipped weights, s' = -s. See `o3bnn.compiler.thresholds` for the same in the PyTorch compiler, and for AND windows.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.onnx.graph import Node
from o3bnn.compiler.onnx.layers import MAX_COLUMNS, Layer
from o3bnn.compiler.onnx.symbolic import Ints, Symbol, chunks

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Decision:
    """When a layer's neurons fire.

    values: the two float32 values of the bits in the graph. flipped: bool [channels]. thresholds: int64
    [classes, channels] on the (flipped) signed sum; constant: int8 [classes, channels], a bit or -1 where open.
    decisive_bit: uint8 [channels]. sensitive: channels that decide within the rounding of the graph's float sums.
    """

    values: tuple[float, float]
    flipped: Flags
    thresholds: Ints
    constant: npt.NDArray[np.int8]
    decisive_bit: npt.NDArray[np.uint8]
    sensitive: int


class _Lanes(NamedTuple):
    """Per border class and channel: value at the least and greatest sum, and the sums on both sides of the change."""

    first: npt.NDArray[np.float32]
    last: npt.NDArray[np.float32]
    before: Ints
    after: Ints


def decide(symbol: Symbol, reader: Node) -> Decision:
    """Thresholds of the layer whose output `symbol`, pooled and quantized, is read by the next layer `reader`.

    Raises UnsupportedGraphError where it is not binary, not monotone, or a pool is neither an OR nor an AND.
    """
    layer = symbol.source
    assert isinstance(layer, Layer)
    if symbol.level != len(layer.pools):
        raise reader.error(f"{symbol.name!r} is pooled in another branch: a network here is one line of layers")
    if layer.columns() > MAX_COLUMNS:
        raise reader.error(f"the layer before has {layer.columns()} different sums: {MAX_COLUMNS} can be examined")
    lanes, pools, sensitive = _examine(layer, symbol, reader)
    low, high = _two_values(symbol, reader, lanes)
    start, end = lanes.first == high, lanes.last == high
    rising, falling = (~start & end).any(axis=0), (start & ~end).any(axis=0)
    if np.any(rising & falling):
        raise reader.error(
            f"{symbol.name!r} rises and falls with the sum of channel {np.flatnonzero(rising & falling)[0]}"
        )
    thresholds = np.where(falling, -lanes.before, lanes.after)
    constant = np.where(start == end, start, -1).astype(np.int8)
    return Decision(
        values=(low, high),
        flipped=falling,
        thresholds=thresholds,
        constant=constant,
        decisive_bit=_decisive(layer, pools, rising, falling),
        sensitive=sensitive,
    )


def _examine(layer: Layer, symbol: Symbol, reader: Node) -> tuple[_Lanes, list[npt.NDArray[np.int8]], int]:
    """Everything about the layer's lanes; the direction (1, 0, -1) of what each pool sees in every channel."""
    shape = (layer.classes, layer.channels)
    first, last = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    lanes = _Lanes(first, last, np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    pools = [np.zeros(layer.channels, np.int8) for _ in layer.pools]
    sensitive = np.zeros(layer.channels, np.bool_)
    for channels in chunks(layer.channels, layer.columns()):
        seen: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
        for block in range(layer.classes):
            sums = layer.sums(block, channels)
            base = layer.values(sums, block, channels)
            values = layer.run(symbol.step, base, block, channels)
            if values.dtype != np.float32:
                raise reader.error(f"its input {symbol.name!r} is {values.dtype}, not float32")
            _record(lanes, block, channels, sums, values, symbol, reader)
            sensitive[channels] |= _is_sensitive(layer, symbol, base, values, block, channels)
            if layer.pools:
                inputs = [layer.run(pool.step, base, block, channels) for pool in layer.pools]
                _directions(layer, pools, inputs, channels)
                seen.append((inputs[-1].astype(np.float32), values))
        if len(seen) > 1:
            _check_pooled(layer, seen)
    return lanes, pools, int(sensitive.sum())


def _record(
    lanes: _Lanes,
    block: int,
    channels: slice,
    sums: Ints,
    values: npt.NDArray[np.float32],
    symbol: Symbol,
    reader: Node,
) -> None:
    changes = values[:, 1:] != values[:, :-1]
    count = changes.sum(axis=1)
    if np.any(count > 1):
        row = int(np.flatnonzero(count > 1)[0])
        raise reader.error(_not_binary(symbol, channels.start + row, values[row]))
    rows = np.arange(len(values))
    where = changes.argmax(axis=1) if changes.shape[1] else np.zeros(len(values), np.int64)
    lanes.first[block, channels], lanes.last[block, channels] = values[:, 0], values[:, -1]
    lanes.before[block, channels] = sums[rows, where]
    lanes.after[block, channels] = sums[rows, np.minimum(where + 1, sums.shape[1] - 1)]


def _not_binary(symbol: Symbol, channel: int, values: npt.NDArray[np.float32]) -> str:
    distinct = np.unique(values)
    if len(distinct) == 2:
        return f"its input {symbol.name!r} is not monotone in the sum of channel {channel}, so it has no threshold"
    shown = ", ".join(f"{value:g}" for value in distinct[:4])
    remedy = (
        "Sign gives 0 at 0: use BipolarQuant or Where(x >= 0, 1, -1)"
        if 0 in distinct and len(distinct) == 3
        else ("put a BipolarQuant, a Sign, a Where(x >= 0, 1, -1) or a MultiThreshold of one step before it")
    )
    return (
        f"its input {symbol.name!r} is not binary: in channel {channel} it takes {len(distinct)} values "
        f"({shown}{', ...' if len(distinct) > 4 else ''}): {remedy}"
    )


def _two_values(symbol: Symbol, reader: Node, lanes: _Lanes) -> tuple[float, float]:
    distinct = np.unique(np.concatenate([lanes.first.reshape(-1), lanes.last.reshape(-1)]))
    if len(distinct) > 2:
        shown = ", ".join(f"{value:g}" for value in distinct[:4])
        raise reader.error(
            f"its input {symbol.name!r} takes the values {shown}{', ...' if len(distinct) > 4 else ''} in different "
            f"channels: a layer here reads two values, the same in all channels"
        )
    if not np.all(np.isfinite(distinct)):
        raise reader.error(f"its input {symbol.name!r} is infinite")
    if len(distinct) == 1:  # every neuron is constant; the other value never occurs
        only = float(distinct[0])
        return (0.0, 1.0) if only in (0.0, 1.0) else (-abs(only), abs(only))
    return float(distinct[0]), float(distinct[1])


def _is_sensitive(
    layer: Layer,
    symbol: Symbol,
    base: npt.NDArray[np.float32],
    values: npt.NDArray[np.float32],
    block: int,
    channels: slice,
) -> Flags:
    """Channels in which the rounding of float sums could change a bit: bool [channels]."""
    noise = layer.noise(base, channels)
    if not np.any(noise):
        return np.zeros(len(base), np.bool_)
    moved = [layer.run(symbol.step, base + sign * noise, block, channels) for sign in (np.float32(-1), np.float32(1))]
    return np.asarray(((moved[0] != values) | (moved[1] != values)).any(axis=1))


def _directions(
    layer: Layer, pools: list[npt.NDArray[np.int8]], inputs: list[npt.NDArray[np.float32]], channels: slice
) -> None:
    """Combine the direction of every pool's input in one border class with that of the classes before."""
    for pool, found, values in zip(layer.pools, pools, inputs, strict=True):
        rises, falls = (values[:, 1:] > values[:, :-1]).any(axis=1), (values[:, 1:] < values[:, :-1]).any(axis=1)
        direction = rises.astype(np.int8) - falls
        if np.any(rises & falls) or np.any(direction * found[channels] < 0):
            raise pool.node.error(
                "what it pools rises and falls with a layer's sum, so a window is no OR or AND of bits"
            )
        found[channels] = np.where(found[channels] == 0, direction, found[channels])


def _check_pooled(layer: Layer, seen: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> None:
    """What follows the pool must be monotone over the values of all border classes together, not only of each."""
    inputs, values = (np.concatenate(parts, axis=1) for parts in zip(*seen, strict=True))
    order = np.argsort(inputs, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    if np.any((ordered[:, 1:] != ordered[:, :-1]).sum(axis=1) > 1):
        raise layer.pools[-1].node.error("what follows it is not monotone, so a window is no OR or AND of bits")


def _decisive(layer: Layer, pools: list[npt.NDArray[np.int8]], rising: Flags, falling: Flags) -> npt.NDArray[np.uint8]:
    """1 for an OR window, 0 for an AND window: uint8 [channels]."""
    is_open = rising | falling
    for pool, direction in zip(layer.pools[1:], pools[1:], strict=True):
        if np.any(is_open & (direction != pools[0])):
            raise pool.node.error(
                "between it and the pool before, a channel is negated: a window is no OR or AND of bits"
            )
    if not pools:
        return np.ones(len(rising), np.uint8)
    return np.where(is_open & (pools[0] != np.where(falling, -1, 1)), 0, 1).astype(np.uint8)
