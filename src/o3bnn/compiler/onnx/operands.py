"""Floats that stand for integers: which grid a layer's inputs lie on, and when float32 sums on it are exact."""

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.onnx.graph import Array
from o3bnn.compiler.onnx.symbolic import Ints

Floats = npt.NDArray[np.float64]

FLOAT32_BITS = 24
MAX_INTEGER = 1 << 15
MAX_SUBDIVISION = 64
ROUNDING = 2.0**-21  # of the largest value: what float32 operations on it may have rounded
MAX_DEVIATION = 1 / 64  # of the quantum, for a value that is still taken for a multiple of it


@dataclass(frozen=True, eq=False)
class Operand:
    """What a layer reads: value = quantum * integer.

    table: int64 [256], the integer of every pixel value, for a layer that reads integers; None for bits, which stand
    for the integers low (bit 0) and high (bit 1). padding: the integer beyond the border. exact: whether the values
    are multiples of the quantum to the last bit (else they are roundings of such). shift: what is added to every value
    of a table, where pixels are normalized to no grid through 0; beyond: the value of the padding then (else 0).
    """

    quantum: Fraction
    padding: int
    exact: bool
    low: int = -1
    high: int = 1
    table: Ints | None = None
    shift: float = 0.0
    beyond: float = 0.0

    @property
    def largest(self) -> int:
        """Largest absolute integer."""
        values = (self.low, self.high) if self.table is None else (int(self.table.min()), int(self.table.max()))
        return max(abs(self.padding), *map(abs, values))


def grid(values: Array) -> tuple[Fraction, Ints, bool] | None:
    """The coarsest grid that finite float values lie on: quantum, int64 multiples, and whether they do so exactly.

    Exactly first; else the values may be roundings, such as 2 p / 255 - 1: then a quantum is accepted that is the least
    gap of the values or a simple fraction of it. None where the integers would not fit into 16 bits.
    """
    fractions = [Fraction(float(value)) for value in values]
    quantum = _common(fractions)
    multiples = [fraction / quantum for fraction in fractions]
    if max(abs(multiple) for multiple in multiples) <= MAX_INTEGER:
        return quantum, np.array([int(multiple) for multiple in multiples], np.int64), True
    rough = _rough_grid(values.astype(np.float64))
    return None if rough is None else (Fraction(rough[0]), rough[1], False)


def _common(fractions: list[Fraction]) -> Fraction:
    """Greatest common divisor of fractions, 1 where all are zero."""
    denominator = lcm(*(fraction.denominator for fraction in fractions))
    numerator = gcd(*(int(fraction * denominator) for fraction in fractions))
    return Fraction(numerator or denominator, denominator)


def _rough_grid(values: Floats) -> tuple[float, Ints] | None:
    distinct = np.unique(values)
    span = distinct[-1] - distinct[0]
    if len(distinct) < 2:
        return None
    gap = span / max(1, round(span / np.diff(distinct).min()))
    for parts in range(1, MAX_SUBDIVISION + 1):
        multiples = np.rint(values / (gap / parts))
        if np.abs(multiples).max() > MAX_INTEGER:
            return None
        quantum = float(multiples @ values / (multiples @ multiples))
        if np.abs(values - quantum * multiples).max() <= min(ROUNDING * np.abs(values).max(), MAX_DEVIATION * quantum):
            return quantum, multiples.astype(np.int64)
    return None


def shifted_grid(values: Array) -> tuple[float, Ints, float] | None:
    """Quantum, multiples from 0 on, and shift of finite float values that are evenly spaced, up to rounding."""
    doubles = values.astype(np.float64)
    distinct = np.unique(doubles)
    span = distinct[-1] - distinct[0]
    steps = round(span / np.diff(distinct).min()) if len(distinct) > 1 else 0
    if not 1 <= steps < MAX_INTEGER:
        return None
    multiples = np.rint((doubles - distinct[0]) / (span / steps))
    quantum, shift = np.polyfit(multiples, doubles, 1)
    allowed = min(4 * ROUNDING * np.abs(doubles).max(), MAX_DEVIATION * quantum)
    if np.abs(doubles - (quantum * multiples + shift)).max() > allowed:
        return None
    return float(quantum), multiples.astype(np.int64), float(shift)


def exact_in_float32(unit: Fraction, largest: int) -> bool:
    """Whether float32 holds every multiple of `unit` up to `largest` times it, so that sums never round."""
    if unit == 0:
        return True
    numerator = abs(unit.numerator)
    odd = numerator // (numerator & -numerator)
    power_of_two = unit.denominator & (unit.denominator - 1) == 0
    return power_of_two and odd * largest <= 1 << FLOAT32_BITS
