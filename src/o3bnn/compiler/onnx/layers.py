"""Convolutions and matrix products as sources of integer sums.

The graph computes sums of products in float32. With inputs q * n (n an integer), weights a_c * w (w = -1 or +1) and
padding q * p, the sum of channel c at a position of border class b is

    q a_c (sum of w n over the existing edges + p * sum of w over the padded ones)

(and a_c * shift * sum of w, where pixels are normalized to values q * n + shift).
Where inputs are the two values q * low and q * high for the bits -1 and +1, with s the signed sum of the bits:

    sum of w n = ((high - low) s + (high + low) * sum of w) / 2
"""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.onnx.graph import Array, Node
from o3bnn.compiler.onnx.operands import Operand, exact_in_float32
from o3bnn.compiler.onnx.symbolic import Ints, Source, lanes_of
from o3bnn.errors import UnsupportedGraphError
from o3bnn.model import ConvGeometry

Floats = npt.NDArray[np.float32]
MAX_COLUMNS = 1 << 25


@dataclass(eq=False)
class Layer(Source):
    """A binary layer as a source: its integers are the signed sums s of its existing edges.

    name: of the stage. geometry: see `ConvGeometry`. signs: int8 [out_channels, full_fan_in], -1 and +1, in the
    network's edge order. magnitudes: float32 [out_channels], the absolute value of the weights in the graph.
    dense: whether it reads a flat input. bias: what a Gemm adds while it sums up, or None.
    """

    name: str = ""
    geometry: ConvGeometry = field(default_factory=lambda: ConvGeometry(1, 1, 1, 1))
    signs: npt.NDArray[np.int8] = field(default_factory=lambda: np.ones((1, 1), np.int8))
    magnitudes: Floats = field(default_factory=lambda: np.ones(1, np.float32))
    operand: Operand = field(default_factory=lambda: Operand(Fraction(1), 0, True))
    dense: bool = False
    bias: Floats | None = None

    def __post_init__(self) -> None:
        masks = self.geometry.class_masks
        self.inside = np.stack([self.signs[:, mask].sum(axis=1, dtype=np.int64) for mask in masks])
        self.beyond = self.signs.sum(axis=1, dtype=np.int64) - self.inside
        units = {float(m): self.operand.quantum * Fraction(float(m)) for m in np.unique(self.magnitudes)}
        self.units = [units[float(m)] for m in self.magnitudes]
        largest = self.geometry.full_fan_in * self.operand.largest
        exact = {m: self.operand.exact and exact_in_float32(unit, largest) for m, unit in units.items()}
        self.exact = np.array([exact[float(m)] for m in self.magnitudes])

    @property
    def classes(self) -> int:
        return len(self.inside)

    @property
    def sums_exactly(self) -> bool:
        """Whether float32 sums in the graph never round, so that their order does not matter."""
        return bool(self.exact.all()) and (self.bias is None or bool(np.all(np.rint(self.bias) == self.bias)))

    def sums(self, block: int, channels: slice) -> Ints:
        """Every signed sum that can occur in a border class, rising: int64 [channels, n]."""
        fan_in, inside = int(self.geometry.class_fan_in[block]), self.inside[block, channels]
        table = self.operand.table
        if table is None:
            return np.broadcast_to(np.arange(-fan_in, fan_in + 1, 2), (len(inside), fan_in + 1))
        low, high = int(table.min()), int(table.max())
        step = int(np.gcd.reduce(table - low))
        positive = (fan_in + inside) // 2
        first = positive * low - (fan_in - positive) * high
        return np.asarray(first[:, None] + step * np.arange(fan_in * (high - low) // step + 1)[None], np.int64)

    def columns(self) -> int:
        """How many different sums a neuron away from the borders can have."""
        table = self.operand.table
        if table is None:
            return self.geometry.full_fan_in + 1
        step = int(np.gcd.reduce(table - table.min()))
        return self.geometry.full_fan_in * int(table.max() - table.min()) // step + 1

    def values(self, sums: Ints, block: int, channels: slice) -> Floats:
        """The float32 that the graph computes for signed sums [channels, n] of a border class."""
        operand = self.operand
        twice = 2 * operand.padding * self.beyond[block, channels][:, None]
        if operand.table is None:
            twice = twice + (operand.high - operand.low) * sums
            twice = twice + (operand.high + operand.low) * self.inside[block, channels][:, None]
        else:
            twice = twice + 2 * sums
        halves = np.array([float(unit / 2) for unit in self.units[channels]])[:, None]
        real = twice * halves
        if operand.shift or operand.beyond:
            constant = operand.shift * self.inside[block, channels] + operand.beyond * self.beyond[block, channels]
            real = real + (self.magnitudes[channels].astype(np.float64) * constant)[:, None]
        with np.errstate(over="ignore"):
            values = np.asarray(real, np.float32)
        if not np.all(np.isfinite(values)):
            raise UnsupportedGraphError(f"{self.name}: its scales overflow float32")
        return values

    def noise(self, values: Floats, channels: slice) -> Floats:
        """How far rounding in another order of summation can move these values, roughly; 0 where sums are exact."""
        fan_in = self.geometry.full_fan_in
        units = np.array([float(abs(unit)) for unit in self.units[channels]])[:, None] * self.operand.largest
        walk = np.abs(values) + 4 * np.sqrt(fan_in) * units
        inexact = ~self.exact[channels][:, None]
        if self.bias is not None:
            inexact = inexact | (np.rint(self.bias[channels]) != self.bias[channels])[:, None]
            walk = walk + np.abs(self.bias[channels])[:, None]
        return np.where(inexact, walk * np.sqrt(fan_in) * 2.0**-23, 0).astype(np.float32)

    def run(self, step: int, base: Array, block: int, channels: slice) -> Array:
        """Value of a step for float32 sums [channels, n] of a border class."""
        return self.evaluate(step, base, lanes_of(block, channels))


def binary_weights(node: Node, weights: Array) -> tuple[npt.NDArray[np.int8], Floats]:
    """Signs int8 and magnitude float32 [out] of weights [out, ...], which must be -a_c or +a_c in every channel.

    a_c may be 0: exporters fold a batch norm of gamma 0 into the weights, which leaves a constant channel.
    """
    if weights.dtype != np.float32:
        raise node.error(f"its weights are {weights.dtype}, not float32")
    flat = np.abs(weights.reshape(len(weights), -1))
    magnitudes = flat.max(axis=1)
    good = (flat == magnitudes[:, None]).all(axis=1) & np.isfinite(magnitudes)
    if not np.all(good):
        channel = int(np.flatnonzero(~good)[0])
        found = np.unique(weights[channel])
        shown = ", ".join(f"{value:g}" for value in found[:4]) + (", ..." if len(found) > 4 else "")
        raise node.error(
            f"its weights are not binary: channel {channel} has the values {shown}, where -a and +a are needed "
            f"(quantize them with BipolarQuant, Sign or Where(w >= 0, 1, -1))"
        )
    return np.where(weights > 0, 1, -1).astype(np.int8), magnitudes
