"""Stages as the machine reads them: edge words of B bits, bit planes of integer inputs, thresholds on their score.

An integer operand x = c + step * u, u an unsigned integer of n bits with bits u_b, has the signed sum
s = sum w x = c W + step sum_b 2^b sum w u_b, W = sum w. With m_b matches in plane b of K edges, sum w u_b =
(2 m_b - K + W) / 2, so that

    2 s = (2 c + step (2^n - 1)) W + step (2 S - K (2^n - 1)),   S = sum_b 2^b m_b,

and s >= t iff S >= ceil(((2 t - (2 c + step (2^n - 1)) W) / step + K (2^n - 1)) / 2), the inner division rounded up.
For the default table x = 2 p - 255: c = -255, step = 2, n = 8, and the W term vanishes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from o3bnn.model import packing
from o3bnn.model.network import InputEncoding, OutputStage, Stage

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Planes:
    """x = base + step * u, 0 <= u < 2^count."""

    base: int
    step: int
    count: int

    @property
    def weight(self) -> int:
        """Sum of the planes' weights, 2^n - 1."""
        return (1 << self.count) - 1


BITS = Planes(0, 1, 1)


def planes(encoding: InputEncoding) -> Planes:
    """Bit planes of an integer input table; one plane for a table that has only one value."""
    values = encoding.table.astype(np.int64)
    base = int(values.min())
    step = int(np.gcd.reduce(values - base)) or 1
    return Planes(base, step, max(1, int((values.max() - base) // step).bit_length()))


def encode(encoding: InputEncoding, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """The machine's operand of one image [height, width, channels]: bits, or u of every pixel; uint16, same shape."""
    values = encoding.table.astype(np.int64)[image]
    if encoding.is_binary:
        return (values > 0).astype(np.uint16)
    split = planes(encoding)
    return ((values - split.base) // split.step).astype(np.uint16)


def cut(bits: npt.NDArray[np.uint8] | npt.NDArray[np.bool_], word: int) -> npt.NDArray[np.uint64]:
    """Cut rows [n, K] of bits into edge words of `word` bits: uint64 [n, words * limbs], zeros beyond the last edge."""
    rows, fan_in = bits.shape
    words = -(-fan_in // word)
    padded = np.zeros((rows, words * word), np.uint8)
    padded[:, :fan_in] = bits
    return np.ascontiguousarray(packing.pack(padded.reshape(rows, words, word)).reshape(rows, -1))


def thresholds(stage: Stage, split: Planes) -> IntArray:
    """Thresholds on the score S: int64 [class_count, out_channels]; on matches, where the input is bits."""
    found = stage.thresholds.astype(np.int64)
    if not stage.integer_input:
        return found
    g = stage.geometry
    signs = 2 * stage.weight_bits().astype(np.int64) - 1
    sums = g.class_masks.astype(np.int64) @ signs.T
    target = 2 * found - (2 * split.base + split.step * split.weight) * sums
    scaled = -(-target // split.step) + g.class_fan_in[:, None] * split.weight
    return np.asarray(-(-scaled // 2), np.int64)


def output_thresholds(output: OutputStage) -> IntArray:
    """An output neuron has no threshold; the machine gets one that never decides: int64 [1, classes]."""
    return np.full((1, output.classes), output.in_features + 1, np.int64)
