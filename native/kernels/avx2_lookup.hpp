// AVX2, which has no popcount of vectors: mismatches are looked up, four edges at a time.
//
// For four given bits of a patch, the number of mismatches is a function of four weights: a table of 16 octets, which
// VPSHUFB applies to 32 channels at once. An octet has room for two counts of 0..4, so that one table serves two
// patches:
//     entry[x, y][w] = popcount(x ^ w) + 16 popcount(y ^ w)         256 tables of 16 octets, 4 KiB
// Three entries are added before a count might exceed its four bits; v = A + 16 B, A and B at most 12. Two counters of
// octets then suffice, each modulo 256, in 16-bit lanes that hold an even (0) and an odd (1) octet:
//     all  = sum of v              octets: A0 + 16 B0,   A1 + 16 B1
//     high = sum of v >> 4         octets: B0 + 16 A1,   B1              (the shift is one of 16-bit lanes)
// B1 is known, thus A1 = all1 - 16 B1, B0 = high0 - 16 A1, A0 = all0 - 16 B0, exactly while no count exceeds 255. That
// is eight instructions for 3 x 4 edges x 2 patches x 32 channels, without a mask in the loop.
//
// Weights are packed one bit an edge, so that wide dense stages are not slowed down by memory, and are unpacked to one
// octet for four edges by the first pair of patches of a call; the unpacked chunk stays in the first-level cache.
// Figures, and what else was tried: docs/decisions/0006-avx2-lookup.md.
#pragma once

#include <immintrin.h>

#include "kernels/kernel.hpp"

namespace o3bnn {
namespace {

constexpr std::size_t kLanes = 32;
constexpr std::size_t kOctetsOfWord = 8;
constexpr std::size_t kVectors = 4;     // vectors of channels at a time
constexpr std::size_t kChunk = 30;      // octets of a patch between two decodings: 60 look-ups of at most 4
constexpr std::size_t kSpan = 15;       // words that are looked up at a time: four chunks
constexpr std::size_t kStretch = 1020;  // words whose mismatches fit 16 bits: 68 spans
constexpr std::size_t kChannels = 256;  // channels whose counts are kept at a time
constexpr std::size_t kIndices = kSpan * kOctetsOfWord * 2;

std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }
std::size_t most(std::size_t a, std::size_t b) { return a < b ? b : a; }
std::size_t words_of(std::size_t bits) { return (bits + kWordBits - 1) / kWordBits; }

struct Table {
    alignas(64) std::uint8_t entries[256][16];
};

constexpr Table make_table() {
    Table table{};
    for (unsigned pair = 0; pair < 256; ++pair) {
        for (unsigned weights = 0; weights < 16; ++weights) {
            unsigned counts = 0;
            for (unsigned bit = 0; bit < 4; ++bit) {
                counts += (pair ^ weights) >> bit & 1;
                counts += ((pair >> 4) ^ weights) >> bit << 4 & 16;
            }
            table.entries[pair][weights] = static_cast<std::uint8_t>(counts);
        }
    }
    return table;
}

constexpr Table kTable = make_table();

struct Workspace {
    alignas(32) std::uint16_t counts[kMaxTile][kChannels];
    alignas(32) std::int32_t totals[kMaxTile][kChannels];  ///< of earlier stretches, where there are several
    alignas(32) std::uint16_t indices[kMaxTile / 2][kIndices];
    __m256i weights[kVectors][2 * kChunk];  ///< unpacked: four edges an octet
};

/// One chunk of the patches' octets, for a pair of patches and some vectors of channels.
struct Chunk {
    const __m256i* packed;  ///< [octets] of the first vector of channels
    std::size_t row;        ///< from one vector of channels to the next in `packed`
    __m256i* weights;       ///< [kVectors][2 kChunk] unpacked
    const std::uint16_t* indices;
    std::size_t octets;
    std::uint16_t* counts;  ///< of the first patch
};

/// Entries for an index of pair_indices().
__m256i entries(std::uint16_t index) {
    const std::uint8_t* octets = kTable.entries[0] + std::size_t{index} * 8;
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(octets)));
}

/// counter += x in octets. In assembly, since GCC 12 spills or copies the counters around the intrinsic.
void add_octets(__m256i& counter, __m256i x) { asm("vpaddb %1, %0, %0" : "+x"(counter) : "x"(x)); }

void add_counts(std::uint16_t* counts, __m256i x) {
    auto* vector = reinterpret_cast<__m256i*>(counts);
    _mm256_store_si256(vector, _mm256_add_epi16(_mm256_load_si256(vector), x));
}

__m256i low_four(__m256i x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
__m256i high_four(__m256i x) { return low_four(_mm256_srli_epi16(x, 4)); }
__m256i even_octets(__m256i x) { return _mm256_and_si256(x, _mm256_set1_epi16(0xff)); }

/// Counters of C vectors of channels, see the head of this file. (An array of pairs would be kept in memory.)
template <std::size_t C>
struct Counters {
    __m256i all[C], high[C];
};

template <std::size_t C>
void clear(Counters<C>& counters) {
#pragma GCC unroll 8
    for (std::size_t c = 0; c < C; ++c) counters.all[c] = counters.high[c] = _mm256_setzero_si256();
}

/// Three look-ups in vector c.
template <std::size_t C>
void add_three(Counters<C>& counters, std::size_t c, const __m256i (&table)[3], __m256i w0, __m256i w1, __m256i w2) {
    const __m256i two = _mm256_add_epi8(_mm256_shuffle_epi8(table[0], w0), _mm256_shuffle_epi8(table[1], w1));
    const __m256i v = _mm256_add_epi8(two, _mm256_shuffle_epi8(table[2], w2));
    add_octets(counters.all[c], v);
    add_octets(counters.high[c], _mm256_srli_epi16(v, 4));
}

/// Adds the mismatches to the counts of two patches.
template <std::size_t C>
void decode(const Counters<C>& counters, std::uint16_t* counts) {
#pragma GCC unroll 8
    for (std::size_t c = 0; c < C; ++c, counts += kLanes) {
        const __m256i all = counters.all[c], high = counters.high[c];
        const __m256i b1 = _mm256_srli_epi16(high, 8);
        const __m256i a1 = _mm256_srli_epi16(_mm256_sub_epi16(all, _mm256_slli_epi16(b1, 12)), 8);
        const __m256i b0 = even_octets(_mm256_sub_epi16(high, _mm256_slli_epi16(a1, 4)));
        const __m256i a0 = even_octets(_mm256_sub_epi16(all, _mm256_slli_epi16(b0, 4)));
        add_counts(counts, a0);
        add_counts(counts + 16, a1);
        add_counts(counts + kChannels, b0);
        add_counts(counts + kChannels + 16, b1);
    }
}

/// Two patches x C vectors of channels, from unpacked weights.
template <std::size_t C>
[[gnu::noinline]] void accumulate(const Chunk& chunk) {
    Counters<C> counters;
    clear(counters);
    const std::uint16_t* index = chunk.indices;
    const std::uint16_t* const end = index + 2 * chunk.octets;
    for (const __m256i* weights = chunk.weights; index < end; index += 3, weights += 3) {
        const __m256i table[3] = {entries(index[0]), entries(index[1]), entries(index[2])};
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const __m256i* w = weights + c * 2 * kChunk;
            add_three(counters, c, table, w[0], w[1], w[2]);
        }
    }
    decode(counters, chunk.counts);
}

/// The same from packed weights, which are unpacked on the way. A multiple of three octets.
template <std::size_t C>
[[gnu::noinline]] void accumulate_unpacking(const Chunk& chunk) {
    Counters<C> counters;
    clear(counters);
    const std::uint16_t* index = chunk.indices;
    const __m256i* packed = chunk.packed;
    const std::size_t row = chunk.row;
    const __m256i* const end = packed + chunk.octets;
    for (__m256i* weights = chunk.weights; packed < end; packed += 3, weights += 6, index += 6) {
        const __m256i first[3] = {entries(index[0]), entries(index[1]), entries(index[2])};
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const __m256i x0 = _mm256_loadu_si256(packed + c * row), x1 = _mm256_loadu_si256(packed + c * row + 1);
            __m256i* w = weights + c * 2 * kChunk;
            add_three(counters, c, first, w[0] = low_four(x0), w[1] = high_four(x0), w[2] = low_four(x1));
        }
        const __m256i second[3] = {entries(index[3]), entries(index[4]), entries(index[5])};
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const __m256i x1 = _mm256_loadu_si256(packed + c * row + 1), x2 = _mm256_loadu_si256(packed + c * row + 2);
            __m256i* w = weights + c * 2 * kChunk + 3;
            add_three(counters, c, second, w[0] = high_four(x1), w[1] = low_four(x2), w[2] = high_four(x2));
        }
    }
    decode(counters, chunk.counts);
}

/// One patch, paired with itself, from packed weights: entries are 17 A, and A = 17 A - 16 (17 A) modulo 256.
template <std::size_t C>
[[gnu::noinline]] void accumulate_one(const Chunk& chunk) {
    __m256i sums[C];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < C; ++c) sums[c] = _mm256_setzero_si256();
    for (std::size_t i = 0; i < chunk.octets; ++i) {
        const __m256i low = entries(chunk.indices[2 * i]), high = entries(chunk.indices[2 * i + 1]);
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const __m256i x = _mm256_loadu_si256(chunk.packed + c * chunk.row + i);
            add_octets(sums[c], _mm256_shuffle_epi8(low, low_four(x)));
            add_octets(sums[c], _mm256_shuffle_epi8(high, high_four(x)));
        }
    }
#pragma GCC unroll 8
    for (std::size_t c = 0; c < C; ++c) {
        const __m256i counts = _mm256_sub_epi8(sums[c], _mm256_slli_epi16(low_four(sums[c]), 4));
        add_counts(chunk.counts + c * kLanes, even_octets(counts));
        add_counts(chunk.counts + c * kLanes + 16, _mm256_srli_epi16(counts, 8));
    }
}

void unpack(const Chunk& chunk, std::size_t vectors) {
    for (std::size_t c = 0; c < vectors; ++c) {
        __m256i* w = chunk.weights + c * 2 * kChunk;
        for (std::size_t i = 0; i < chunk.octets; ++i) {
            const __m256i x = _mm256_loadu_si256(chunk.packed + c * chunk.row + i);
            w[2 * i] = low_four(x);
            w[2 * i + 1] = high_four(x);
        }
        for (std::size_t i = 2 * chunk.octets; i % 3 != 0; ++i) w[i] = _mm256_setzero_si256();
    }
}

/// All patches of a call x C vectors of channels.
template <std::size_t C>
void accumulate_patches(Chunk chunk, std::size_t patches) {
    if (patches == 1) return accumulate_one<C>(chunk);
    const bool whole = chunk.octets % 3 == 0;
    if (whole)
        accumulate_unpacking<C>(chunk);
    else
        unpack(chunk, C);
    for (std::size_t patch = 0; patch < patches; patch += 2) {
        if (patch > 0 || !whole) accumulate<C>(chunk);
        chunk.indices += kIndices;
        chunk.counts += 2 * kChannels;
    }
}

/// For every four bits of two patches, the place of their entries in units of 8 octets (x86 scales an index by at most
/// 8). Up to two zeros follow, for a whole number of look-ups of three: a patch bit of zero agrees with an unpacked
/// zero.
void pair_indices(const Word* x, const Word* y, std::size_t words, std::uint16_t* indices) {
    const __m128i four = _mm_set1_epi8(15);
    std::uint16_t* out = indices;
    for (std::size_t i = 0; i < words; ++i, out += 16) {
        const __m128i a = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x + i));
        const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(y + i));
        const __m128i low = _mm_or_si128(_mm_and_si128(a, four), _mm_slli_epi16(_mm_and_si128(b, four), 4));
        const __m128i high = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(a, 4), four), _mm_andnot_si128(four, b));
        const __m256i pairs = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(low, high));
        _mm256_store_si256(reinterpret_cast<__m256i*>(out), _mm256_add_epi16(pairs, pairs));
    }
    for (std::size_t i = 16 * words; i % 3 != 0; ++i) indices[i] = 0;
}

}  // namespace
}  // namespace o3bnn
