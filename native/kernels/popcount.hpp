// Number of ones in words, in portable C++. Baseline x86-64 has no popcount instruction.
#pragma once

#include <bit>

#include "kernels/kernel.hpp"

namespace o3bnn {

inline constexpr Word kPairs = 0x5555555555555555u;
inline constexpr Word kNibbles = 0x3333333333333333u;
inline constexpr Word kOctets = 0x0f0f0f0f0f0f0f0fu;
inline constexpr Word kOctetOnes = 0x0101010101010101u;

/// Ones in each pair of bits (0..2), kept in that pair.
inline Word count_pairs(Word x) { return x - ((x >> 1) & kPairs); }

/// Sums of neighbouring pair counts (0..4), kept in four bits.
inline Word add_pairs(Word x) { return (x & kNibbles) + ((x >> 2) & kNibbles); }

/// Ones in each octet (0..8), kept in that octet.
inline Word count_octets(Word x) {
    x = add_pairs(count_pairs(x));
    return (x + (x >> 4)) & kOctets;
}

inline std::int32_t popcount(Word x) {
#if defined(__POPCNT__) || defined(__aarch64__)
    return std::popcount(x);
#else
    return static_cast<std::int32_t>((count_octets(x) * kOctetOnes) >> 56);
#endif
}

/// Sum of the eight octets, each 0..255.
inline std::int32_t sum_octets(Word x) {
    constexpr Word kHalves = 0x00ff00ff00ff00ffu;
    x = (x & kHalves) + ((x >> 8) & kHalves);
    return static_cast<std::int32_t>((x * 0x0001000100010001u) >> 48);
}

/// Index of the rank-th one, rank = 1 .. popcount(x).
inline std::size_t select(Word x, std::int32_t rank) {
    constexpr Word kOctetTops = 0x8080808080808080u;
    const Word running = count_octets(x) * kOctetOnes;  // ones up to and including each octet
    const Word reached = ((running | kOctetTops) - static_cast<Word>(rank) * kOctetOnes) & kOctetTops;
    const auto octet = static_cast<std::size_t>(std::countr_zero(reached)) & ~std::size_t{7};
    rank -= static_cast<std::int32_t>((running << 8) >> octet & 0xff);
    x >>= octet;
    for (; rank > 1; --rank) x &= x - 1;
    return octet + static_cast<std::size_t>(std::countr_zero(x));
}

/// The bits below `bit`, bit = 0..64.
inline Word below(std::size_t bit) { return bit < kWordBits ? (Word{1} << bit) - 1 : ~Word{0}; }

/// Bits of word `index` that lie in begin <= bit < end, of a row of words. The word overlaps the range.
inline Word range_mask(std::size_t index, std::size_t begin, std::size_t end) {
    const std::size_t base = index * kWordBits;
    const Word low = begin > base ? below(begin - base) : 0;
    return below(end - base < kWordBits ? end - base : kWordBits) & ~low;
}

}  // namespace o3bnn
