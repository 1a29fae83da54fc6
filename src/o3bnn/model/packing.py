"""Bits in 64-bit words: the only place that knows how bits are laid out in memory.

Element i of a row of n bits is bit `i % 64` (least significant first) of word `i // 64`, words in increasing order. The
bits of the last word beyond n are zero and are not edges.
"""

import numpy as np
import numpy.typing as npt

WORD_BITS = 64

Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]


def word_count(bits: int) -> int:
    """Number of 64-bit words that hold `bits` bits."""
    return -(-bits // WORD_BITS)


def pack(bits: npt.NDArray[np.uint8] | npt.NDArray[np.bool_]) -> Words:
    """Pack the last axis: [..., n] of 0/1 -> uint64 [..., word_count(n)], C-contiguous."""
    n = bits.shape[-1]
    words = word_count(n)
    padded = np.zeros((*bits.shape[:-1], words * WORD_BITS), np.uint8)
    padded[..., :n] = bits
    packed = np.packbits(padded, axis=-1, bitorder="little")
    return packed.view("<u8").astype(np.uint64, copy=False).reshape(*bits.shape[:-1], words)


def unpack(words: Words, n: int) -> Bits:
    """Inverse of `pack`: uint64 [..., word_count(n)] -> uint8 [..., n] of 0/1."""
    if words.shape[-1] != word_count(n):
        raise ValueError(f"{n} bits are {word_count(n)} words, not {words.shape[-1]}")
    octets = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    octets = octets.reshape(*words.shape[:-1], words.shape[-1] * 8)
    return np.unpackbits(octets, axis=-1, count=n, bitorder="little")


def padding_is_zero(words: Words, n: int) -> bool:
    """Whether every bit beyond the first n of each row is zero."""
    used = n % WORD_BITS
    if used == 0 or words.size == 0:
        return True
    return not bool(np.any(words[..., -1] >> np.uint64(used)))


def popcount(words: Words) -> npt.NDArray[np.int64]:
    """Number of ones in each row: uint64 [..., w] -> int64 [...]."""
    return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64), np.int64)
