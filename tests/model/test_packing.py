"""Bits in words, against a definition one bit at a time."""

import numpy as np
import pytest

from o3bnn.model import packing

SIZES = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 191, 192, 193, 255, 256, 257, 1000]
LEADING = [(), (1,), (3,), (2, 3), (2, 1, 4)]


def random_bits(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2, shape, dtype=np.uint8)


def words_by_definition(row):
    """One row of bits as Python integers, bit i % 64 of word i // 64."""
    return [sum(int(bit) << i for i, bit in enumerate(row[w : w + 64])) for w in range(0, len(row), 64)]


@pytest.mark.parametrize("n", SIZES)
def test_pack_by_definition(n):
    bits = random_bits((5, n))
    packed = packing.pack(bits)
    assert packed.dtype == np.uint64
    assert packed.flags.c_contiguous
    assert packed.tolist() == [words_by_definition(row) for row in bits]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("leading", LEADING)
def test_round_trip(n, leading):
    bits = random_bits((*leading, n), seed=n)
    packed = packing.pack(bits)
    assert packed.shape == (*leading, packing.word_count(n))
    assert packing.padding_is_zero(packed, n)
    unpacked = packing.unpack(packed, n)
    assert unpacked.dtype == np.uint8
    assert unpacked.shape == bits.shape
    assert np.array_equal(unpacked, bits)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("fill", [0, 1])
def test_constant_rows(n, fill):
    packed = packing.pack(np.full((2, n), fill, np.uint8))
    assert packing.popcount(packed).tolist() == [fill * n] * 2
    assert np.array_equal(packing.unpack(packed, n), np.full((2, n), fill))


@pytest.mark.parametrize("n", SIZES)
def test_each_bit_has_its_place(n):
    packed = packing.pack(np.eye(n, dtype=np.uint8))
    for i in range(n):
        assert packed[i, i // 64] == 1 << i % 64
        assert np.count_nonzero(packed[i]) == 1


@pytest.mark.parametrize("n", SIZES)
def test_popcount(n):
    bits = random_bits((3, 4, n), seed=2)
    counts = packing.popcount(packing.pack(bits))
    assert counts.dtype == np.int64
    assert np.array_equal(counts, bits.sum(axis=-1))


@pytest.mark.parametrize("n", SIZES)
def test_padding_is_zero_finds_every_padding_bit(n):
    clean = packing.pack(random_bits((3, n)))
    for bit in range(n, packing.word_count(n) * 64):
        dirty = clean.copy()
        dirty[1, -1] |= np.uint64(1 << bit % 64)
        assert not packing.padding_is_zero(dirty, n)
    for bit in range(n):
        dirty = clean.copy()
        dirty[1, bit // 64] ^= np.uint64(1 << bit % 64)
        assert packing.padding_is_zero(dirty, n)


@pytest.mark.parametrize(("bits", "words"), [(0, 0), (1, 1), (63, 1), (64, 1), (65, 2), (128, 2), (129, 3)])
def test_word_count(bits, words):
    assert packing.word_count(bits) == words


def test_booleans_and_views_pack_like_bits():
    bits = random_bits((6, 130))
    assert np.array_equal(packing.pack(bits.astype(np.bool_)), packing.pack(bits))
    assert np.array_equal(packing.pack(bits[::2, ::-1]), packing.pack(bits[::2, ::-1].copy()))
    assert np.array_equal(packing.unpack(packing.pack(bits)[::2], 130), bits[::2])


def test_packing_leaves_its_argument_alone():
    bits = random_bits((2, 65))
    copy = bits.copy()
    packed = packing.pack(bits)
    packing.unpack(packed, 65)[...] = 1
    assert np.array_equal(bits, copy)
    assert np.array_equal(packing.unpack(packed, 65), copy)


@pytest.mark.parametrize(("n", "words"), [(1, 0), (1, 2), (64, 2), (65, 1), (65, 3), (0, 1)])
def test_wrong_word_counts_are_refused(n, words):
    with pytest.raises(ValueError, match=f"{n} bits are {packing.word_count(n)} words, not {words}"):
        packing.unpack(np.zeros((2, words), np.uint64), n)


@pytest.mark.parametrize("n", [1, 64, 65])
@pytest.mark.parametrize("leading", [(0,), (3, 0), (0, 3)])
def test_no_rows(n, leading):
    packed = packing.pack(np.zeros((*leading, n), np.uint8))
    assert packed.shape == (*leading, packing.word_count(n))
    assert packing.padding_is_zero(packed, n)
    assert packing.unpack(packed, n).shape == (*leading, n)
    assert packing.popcount(packed).shape == leading
