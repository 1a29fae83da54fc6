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

}  // namespace

}  // namespace o3bnn
