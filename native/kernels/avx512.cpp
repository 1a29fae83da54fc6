// AVX-512 with VPOPCNTDQ: eight channels a vector, popcount of xor in 64-bit lanes.
//
// A register tile is 4 patches x 32 channels: sixteen accumulators, four weight vectors, one broadcast patch word. Each word
// then costs 48 arithmetic instructions and eight loads, so the loop runs at the processor's limit for xor, popcount and add.
// Channel blocks are the outer loop: a block's weights (32 x words x 8 octets) stay in the first-level cache for all patches.
#include <immintrin.h>

#include "kernels/kernel.hpp"

namespace o3bnn {
namespace {

constexpr std::size_t kLanes = 8;
constexpr std::size_t kPatches = 4;  // of a register tile
constexpr std::size_t kVectors = 4;

/// The bits of C x 8 channels for one patch, from their mismatches.
template <std::size_t C>
std::uint32_t fires(const __m512i (&mismatches)[C], const std::int32_t* limits) {
    std::uint32_t bits = 0;
#pragma GCC unroll 8
    for (std::size_t c = 0; c < C; ++c) {
        const __m256i limit = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(limits + c * kLanes));
        const __mmask8 mask = _mm256_cmple_epi32_mask(_mm512_cvtepi64_epi32(mismatches[c]), limit);
        bits |= static_cast<std::uint32_t>(_cvtmask8_u32(mask)) << (c * kLanes);
    }
    return bits;
}

/// P patches x C vectors of channels, from channel `channel` on.
template <std::size_t P, std::size_t C>
void tile_bits(const BinaryTile* tiles, const Word* block, std::size_t words, std::size_t channel) {
    __m512i mismatches[P][C];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) mismatches[p][c] = _mm512_setzero_si512();
    }
    const Word* patches[P];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) patches[p] = tiles[p].patch;
    for (std::size_t word = 0; word < words; ++word) {
        __m512i weights[C];
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) weights[c] = _mm512_loadu_si512(block + (c * words + word) * kLanes);
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p) {
            const __m512i patch = _mm512_set1_epi64(static_cast<long long>(patches[p][word]));
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) {
                const __m512i differ = _mm512_popcnt_epi64(_mm512_xor_si512(patch, weights[c]));
                mismatches[p][c] = _mm512_add_epi64(mismatches[p][c], differ);
            }
        }
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p)
        tiles[p].fired[channel / kWordBits] |= Word{fires<C>(mismatches[p], tiles[p].limits + channel)} << (channel % kWordBits);
}

template <std::size_t C>
void block_bits(const BinaryDenseTask& task, std::size_t channel) {
    const Word* block = task.blocks + channel * task.words;
    std::size_t tile = 0;
    for (; tile + kPatches <= task.count; tile += kPatches)
        tile_bits<kPatches, C>(task.tiles + tile, block, task.words, channel);
    for (; tile + 2 <= task.count; tile += 2) tile_bits<2, C>(task.tiles + tile, block, task.words, channel);
    for (; tile < task.count; ++tile) tile_bits<1, C>(task.tiles + tile, block, task.words, channel);
}

void dense_bits(const BinaryDenseTask& task) {
    for (std::size_t tile = 0; tile < task.count; ++tile) {
        for (std::size_t i = 0; i < word_count(task.channels); ++i) task.tiles[tile].fired[i] = 0;
    }
    const std::size_t vectors = (task.channels + kLanes - 1) / kLanes;
    std::size_t vector = 0;
    for (; vector + kVectors <= vectors; vector += kVectors) block_bits<kVectors>(task, vector * kLanes);
    const std::size_t channel = vector * kLanes;
    switch (vectors - vector) {
        case 3: return block_bits<3>(task, channel);
        case 2: return block_bits<2>(task, channel);
        case 1: return block_bits<1>(task, channel);
        default: return;
    }
}

constexpr std::size_t kIntegerLanes = 32;  // 16-bit sums, widened before they might overflow
constexpr std::int32_t kLargest = 32767;

std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }

/// Adds the 16-bit sums of C x 32 channels to their 32-bit sums and clears them.
template <std::size_t C>
void widen(__m512i (&narrow)[C], __m512i (&wide)[2 * C]) {
#pragma GCC unroll 8
    for (std::size_t c = 0; c < C; ++c) {
        wide[2 * c] = _mm512_add_epi32(wide[2 * c], _mm512_cvtepi16_epi32(_mm512_castsi512_si256(narrow[c])));
        wide[2 * c + 1] = _mm512_add_epi32(wide[2 * c + 1], _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(narrow[c], 1)));
        narrow[c] = _mm512_setzero_si512();
    }
}

/// One patch x C vectors of 32 channels, from channel `channel` on.
template <std::size_t C>
void tile_integers(const IntegerTile& tile, const IntegerDenseTask& task, std::size_t channel) {
    const std::int16_t* block = task.blocks + channel * task.edges;
    const auto stretch = static_cast<std::size_t>(kLargest / task.magnitude);
    __m512i narrow[C], wide[2 * C];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < C; ++c) narrow[c] = wide[2 * c] = wide[2 * c + 1] = _mm512_setzero_si512();
    for (std::size_t edge = 0; edge < task.edges;) {
        const std::size_t stop = least(task.edges, edge + stretch);
        for (; edge < stop; ++edge) {
            const __m512i x = _mm512_set1_epi16(tile.patch[edge]);
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) {
                const __m512i sign = _mm512_loadu_si512(block + (c * task.edges + edge) * kIntegerLanes);
                narrow[c] = _mm512_add_epi16(narrow[c], _mm512_mullo_epi16(x, sign));
            }
        }
        widen<C>(narrow, wide);
    }
#pragma GCC unroll 8
    for (std::size_t c = 0; c < 2 * C; ++c) {
        const std::size_t first = channel + c * 16;
        if (first >= task.channels) break;
        const auto exist = static_cast<__mmask16>(0xffffu >> (16 - least(16, task.channels - first)));
        const __m512i thresholds = _mm512_maskz_loadu_epi32(exist, tile.thresholds + first);
        const __mmask16 fires = _mm512_mask_cmpge_epi32_mask(exist, wide[c], thresholds);
        tile.fired[first / kWordBits] |= Word{_cvtmask16_u32(fires)} << (first % kWordBits);
    }
}

void dense_integers(const IntegerDenseTask& task) {
    // all zero, or a product that does not fit 16 bits: rare enough for the portable kernel, whose blocks are the same
    if (task.magnitude < 1 || task.magnitude > kLargest) return conv_int_scalar.dense(task);
    const std::size_t vectors = (task.channels + kIntegerLanes - 1) / kIntegerLanes;
    for (std::size_t i = 0; i < task.count; ++i) {
        const IntegerTile& tile = task.tiles[i];
        for (std::size_t word = 0; word < word_count(task.channels); ++word) tile.fired[word] = 0;
        std::size_t vector = 0;
        for (; vector + 4 <= vectors; vector += 4) tile_integers<4>(tile, task, vector * kIntegerLanes);
        if (vectors - vector >= 2) {
            tile_integers<2>(tile, task, vector * kIntegerLanes);
            vector += 2;
        }
        if (vector < vectors) tile_integers<1>(tile, task, vector * kIntegerLanes);
    }
}

void output_sums(const Word* bits, const Word* rows, std::size_t words, std::int32_t fan_in, std::size_t classes,
                 std::int32_t* sums) {
    for (std::size_t c = 0; c < classes; ++c, rows += words) {
        __m512i differ = _mm512_setzero_si512();
        for (std::size_t word = 0; word < words; word += kLanes) {
            const std::size_t left = words - word;
            const auto exist = static_cast<__mmask8>(left >= kLanes ? 0xff : 0xff >> (kLanes - left));
            const __m512i x = _mm512_maskz_loadu_epi64(exist, bits + word);
            const __m512i w = _mm512_maskz_loadu_epi64(exist, rows + word);
            differ = _mm512_add_epi64(differ, _mm512_popcnt_epi64(_mm512_xor_si512(x, w)));
        }
        sums[c] = fan_in - 2 * static_cast<std::int32_t>(_mm512_reduce_add_epi64(differ));
    }
}

}  // namespace

const BinaryKernel conv_b1_avx512 = {"conv_b1_avx512", kLanes, kMaxTile, dense_bits, conv_b1_scalar.prune};
const IntegerKernel conv_int_avx512 = {"conv_int_avx512", kIntegerLanes, kMaxTile, dense_integers, conv_int_scalar.prune};
const OutputKernel output_avx512 = {"output_avx512", output_sums};

}  // namespace o3bnn
