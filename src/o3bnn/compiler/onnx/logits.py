"""The output layer: logits = float32(float32(sum) * scale) + offset, from whatever the graph computes there.

The graph's own logits T are evaluated for every class and every sum that can occur. Scale and offset are searched for
among the float32 neighbours of the line through them. Where they reproduce T to the last bit, the logits are exact.
Where the graph rounds in another way (say (s - mean) / std * weight + bias: four roundings), the best ones are taken
and the order of all pairs (class, sum) is compared with that of T: no pair out of order means the same class for every
image.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.onnx.graph import Node
from o3bnn.compiler.onnx.layers import Layer
from o3bnn.compiler.onnx.symbolic import Symbol, chunks

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

NEIGHBOURS = 4
HUGE = np.float32(2.0**60)
TOLERANCE = 2.0**-18
MAX_PAIRS = 1 << 28


@dataclass(frozen=True, eq=False)
class Logits:
    """scale, offset: float32 [classes]. exact: whether the logits are the graph's, bit by bit.

    disordered: pairs of (class, sum) whose order, or tie, differs from the graph's; None where too many to compare.
    """

    scale: Floats
    offset: Floats
    exact: bool
    disordered: int | None


def fit(symbol: Symbol, layer: Layer, node: Node) -> Logits:
    """Scale and offset of the output layer; UnsupportedGraphError where the logits are not affine in the sums."""
    scale, offset = np.zeros(layer.channels, np.float32), np.zeros(layer.channels, np.float32)
    sums = layer.sums(0, slice(0, layer.channels))[0].astype(np.float32)
    table = np.zeros((layer.channels, len(sums)), np.float32)
    known: dict[tuple[float, float], tuple[float, np.float32]] = {}
    for channels in chunks(layer.channels, len(sums)):
        rows = layer.sums(0, channels)
        truth = layer.run(symbol.step, layer.values(rows, 0, channels), 0, channels)
        if truth.dtype != np.float32 or not np.all(np.isfinite(truth)):
            raise node.error(f"its logits {symbol.name!r} are {truth.dtype}, or infinite for some sum")
        slopes, centres, units = _probe(symbol, layer, channels)
        table[channels] = truth
        for row, channel in enumerate(range(channels.start, channels.stop)):
            # Classes with the same function of their values get the same scale, so that their ties stay ties.
            key = (float(slopes[row] / units[row]), float(centres[row]))
            if key not in known:
                found, centre = _closest(sums, truth[row], np.float32(slopes[row]), centres[row])
                known[key] = float(found) / units[row], centre
            scale[channel], offset[channel] = known[key][0] * units[row], known[key][1]
        _check_affine(symbol, node, truth, sums * scale[channels, None] + offset[channels, None], channels.start)
    ours = sums[None, :] * scale[:, None] + offset[:, None]
    if np.array_equal(ours, table):
        return Logits(scale, offset, layer.sums_exactly, 0)
    return Logits(scale, offset, False, _disordered(table, ours))


def _check_affine(symbol: Symbol, node: Node, truth: Floats, ours: Floats, first: int) -> None:
    error = np.abs(truth.astype(np.float64) - ours).max(axis=1)
    bad = np.flatnonzero(~(error <= TOLERANCE * np.abs(truth.astype(np.float64)).max(axis=1)))
    if len(bad):
        raise node.error(
            f"the output {symbol.name!r} is not of the form sum * scale + offset (class {first + int(bad[0])}): the "
            f"last layer may be followed by scales, offsets and batch norm only"
        )


def _probe(symbol: Symbol, layer: Layer, channels: slice) -> tuple[Doubles, Floats, Doubles]:
    """Scale and offset of each class, read off the graph at a huge sum and at 0, and the value of a sum of 1 there.

    At 2^60 an offset vanishes in rounding, and what is left is the scale, exactly, if there is one multiplication.
    """
    half = (layer.operand.high - layer.operand.low) / 2
    units = np.array([float(unit) * half or 1.0 for unit in layer.units[channels]])  # any, where sums are always 0
    zero = layer.values(np.zeros((len(units), 1), np.int64), 0, channels)
    ends = np.concatenate([np.full_like(zero, HUGE), zero], axis=1)
    found = layer.run(symbol.step, ends, 0, channels).astype(np.float32)
    return found[:, 0].astype(np.float64) / float(HUGE) * units, found[:, 1], units


def _closest(sums: Floats, truth: Floats, probed: np.float32, centre: np.float32) -> tuple[np.float32, np.float32]:
    """The scale and offset near the line through `truth` that fit it best."""
    span = float(sums[-1]) - float(sums[0])
    slope = np.float32((float(truth[-1]) - float(truth[0])) / span if span else 0)
    scales, offsets = np.concatenate([_neighbours(probed), _neighbours(slope)]), _neighbours(centre)
    with np.errstate(all="ignore"):
        ours = sums * scales[:, None, None] + offsets[:, None]
        distance = np.abs(ours.astype(np.float64) - truth).max(axis=2)
    best = np.unravel_index(int(np.where(np.isnan(distance), np.inf, distance).argmin()), distance.shape)
    return scales[best[0]], offsets[best[1]]


def _neighbours(value: np.float32) -> Floats:
    """A float32 and its nearest neighbours, itself first."""
    found = [value]
    for end in (np.float32(-np.inf), np.float32(np.inf)):
        current = value
        for _ in range(NEIGHBOURS):
            current = np.nextafter(current, end)
            found.append(current)
    return np.array(found, np.float32)


def _disordered(truth: Floats, ours: Floats) -> int | None:
    """Pairs of different classes whose comparison (less, equal, greater) differs: counted from both sides."""
    classes, columns = truth.shape
    if classes * classes * columns > MAX_PAIRS:
        return None
    count = 0
    sorted_truth, sorted_ours = np.sort(truth, axis=1), np.sort(ours, axis=1)
    for one in range(classes):
        for other in range(classes):
            if one == other:
                continue
            for side in ("left", "right"):
                want = np.searchsorted(sorted_truth[other], truth[one], side)
                found = np.searchsorted(sorted_ours[other], ours[one], side)
                count += int(np.abs(want - found).sum())
    return count
