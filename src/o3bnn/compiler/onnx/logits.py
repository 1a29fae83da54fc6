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

NEIGHBOURS = 4
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
    exact, table = True, np.zeros((layer.channels, len(sums)), np.float32)
    for channels in chunks(layer.channels, len(sums)):
        rows = layer.sums(0, channels)
        truth = layer.run(symbol.step, layer.values(rows, 0, channels), 0, channels).astype(np.float32)
        _check_affine(symbol, node, rows[0], truth, channels.start)
        centre = layer.run(symbol.step, layer.values(0 * rows[:, :1], 0, channels), 0, channels)[:, 0]
        table[channels] = truth
        for row, channel in enumerate(range(channels.start, channels.stop)):
            scale[channel], offset[channel], equal = _closest(sums, truth[row], np.float32(centre[row]))
            exact = exact and equal
    if exact:
        return Logits(scale, offset, layer.sums_exactly, 0)
    ours = sums[None, :] * scale[:, None] + offset[:, None]
    return Logits(scale, offset, False, _disordered(table, ours))


def _check_affine(symbol: Symbol, node: Node, sums: npt.NDArray[np.int64], truth: Floats, first: int) -> None:
    if not np.all(np.isfinite(truth)):
        raise node.error(f"its logits {symbol.name!r} are infinite for some sum")
    exact = truth.astype(np.float64)
    if len(sums) < 2:
        return
    slope = (exact[:, -1:] - exact[:, :1]) / (sums[-1] - sums[0])
    error = np.abs(exact - (exact[:, :1] + slope * (sums - sums[0]))).max(axis=1)
    bad = np.flatnonzero(error > TOLERANCE * np.abs(exact).max(axis=1))
    if len(bad):
        raise node.error(
            f"the output {symbol.name!r} is not of the form sum * scale + offset (class {first + int(bad[0])}): the "
            f"last layer may be followed by scales, offsets and batch norm only"
        )


def _closest(sums: Floats, truth: Floats, centre: np.float32) -> tuple[np.float32, np.float32, bool]:
    """The scale and offset near the line through `truth` that meet its values best, and whether they meet all."""
    span = float(sums[-1]) - float(sums[0])
    slope = np.float32((float(truth[-1]) - float(truth[0])) / span if span else 0)
    scales, offsets = _neighbours(slope), _neighbours(centre)
    ours = sums * scales[:, None, None] + offsets[:, None]
    met = (ours == truth).sum(axis=2)
    best = np.unravel_index(int(met.argmax()), met.shape)
    if met[best] < len(sums):  # prefer the centre of the neighbourhood to a chance hit
        distance = np.abs(ours.astype(np.float64) - truth).max(axis=2)
        best = np.unravel_index(int(distance.argmin()), met.shape)
    return scales[best[0]], offsets[best[1]], bool(met[best] == len(sums))


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
