// AVX-512 with VPOPCNTDQ: eight channels a vector, popcount of xor in 64-bit lanes.
//
// A register tile is 4 patches x 32 channels: sixteen accumulators, four weight vectors, one broadcast patch word. Each
// word then costs 48 arithmetic instructions and eight loads, so the loop runs at the processor's limit for xor,
// popcount and add. Channel blocks are the outer loop: a block's weights (32 x words x 8 octets) stay in the
// first-level cache for all patches.
#include <immintrin.h>

#include "kernels/avx512.hpp"
#include "kernels/prune_popcnt.hpp"

namespace o3bnn {
namespace {

using avx512::kLanes;
constexpr std::size_t kPatches = 4;  // of a register tile
constexpr std::size_t kVectors = 4;

__m512i load_channels(const std::int32_t* values) {
    return _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
}

/// Bits of the lanes that are not negative.
Word fires(__m512i left) { return static_cast<Word>(_cvtmask8_u32(_mm512_movepi64_mask(left))) ^ 0xff; }

/// Subtracts the mismatches over words begin .. end - 1 of P patches and C vectors of channels.
template <std::size_t P, std::size_t C>
[[gnu::always_inline]] inline void add_words(__m512i (&left)[P][C], const Word* const (&patches)[P], const Word* block,
                                             std::size_t row, std::size_t begin, std::size_t end) {
    for (std::size_t word = begin; word < end; ++word) {
        __m512i weights[C];
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) weights[c] = _mm512_loadu_si512(block + (c * row + word) * kLanes);
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p) {
            const __m512i patch = _mm512_set1_epi64(static_cast<long long>(patches[p][word]));
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c)
                left[p][c] = _mm512_sub_epi64(left[p][c], _mm512_popcnt_epi64(_mm512_xor_si512(patch, weights[c])));
        }
    }
}

/// A check of P patches x C vectors of channels.
struct Check {
    const ExitTile* tiles;
    std::size_t offset;  ///< of the channels' entries in ExitTile::absent
    std::size_t index;

    const std::int32_t* absent(std::size_t p) const { return tiles[p].absent ? tiles[p].absent + offset : nullptr; }
};

/// Whether the edges behind a check change no bit. Below zero: silent. From `rest` on: fires. Between: open.
template <std::size_t P, std::size_t C>
bool all_decided(const __m512i (&left)[P][C], const Check& check) {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
        const __m512i rest = _mm512_set1_epi64(check.tiles[p].rest[check.index]);
        const std::int32_t* absent = check.absent(p);
        __mmask8 open = 0;
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const __m512i sure = absent ? _mm512_sub_epi64(left[p][c], load_channels(absent + c * kLanes)) : left[p][c];
            open = _kor_mask8(open, _mm512_cmplt_epu64_mask(sure, rest));
        }
        if (!_kortestz_mask8_u8(open, open)) return false;
    }
    return true;
}

/// Subtracts the mismatches that are sure to come.
template <std::size_t P, std::size_t C>
void add_absent(__m512i (&left)[P][C], const Check& check) {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
        const std::int32_t* absent = check.absent(p);
#pragma GCC unroll 8
        for (std::size_t c = 0; absent && c < C; ++c)
            left[p][c] = _mm512_sub_epi64(left[p][c], load_channels(absent + c * kLanes));
    }
}

/// P patches from tile `tile` on x C vectors of channels from channel `channel` on; with checks, until all are decided.
template <std::size_t P, std::size_t C>
void tile_bits(const BinaryDenseTask& task, const ExitChecks* checks, std::size_t tile, std::size_t channel) {
    const BinaryTile* tiles = task.tiles + tile;
    const Word* block = task.blocks + channel * task.words;
    const Word* patches[P];
    __m512i left[P][C];  // mismatches that a neuron may still have if it is to fire
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
        patches[p] = tiles[p].patch;
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) left[p][c] = load_channels(tiles[p].limits + channel + c * kLanes);
    }
    std::size_t begin = task.begin, end = task.end;
    for (std::size_t i = 0; checks && i < checks->count; ++i) {
        const std::size_t words = checks->words[i];
        if (words <= begin || words >= end) continue;
        add_words(left, patches, block, task.words, begin, words);
        begin = words;
        const Check check = {checks->tiles + tile, i * checks->stride + channel, i};
        if (!all_decided(left, check)) continue;
        add_absent(left, check);
        end = begin;
    }
    add_words(left, patches, block, task.words, begin, end);
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
        Word bits = 0;
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) bits |= fires(left[p][c]) << (c * kLanes);
        tiles[p].fired[channel / kWordBits] |= bits << (channel % kWordBits);
    }
}

template <std::size_t C>
void block_bits(const BinaryDenseTask& task, std::size_t channel, const ExitChecks* checks) {
    std::size_t tile = 0;
    for (; tile + kPatches <= task.count; tile += kPatches) tile_bits<kPatches, C>(task, checks, tile, channel);
    for (; tile + 2 <= task.count; tile += 2) tile_bits<2, C>(task, checks, tile, channel);
    for (; tile < task.count; ++tile) tile_bits<1, C>(task, checks, tile, channel);
}

/// Sets the bits that fire; the others must be zero already.
void run_blocks(const BinaryDenseTask& task, const ExitChecks* checks) {
    const std::size_t vectors = (task.channels + kLanes - 1) / kLanes;
    std::size_t vector = 0;
    for (; vector + kVectors <= vectors; vector += kVectors) block_bits<kVectors>(task, vector * kLanes, checks);
    const std::size_t channel = vector * kLanes;
    switch (vectors - vector) {
        case 3: return block_bits<3>(task, channel, checks);
        case 2: return block_bits<2>(task, channel, checks);
        case 1: return block_bits<1>(task, channel, checks);
        default: return;
    }
}

void clear_bits(const BinaryDenseTask& task) {
    for (std::size_t tile = 0; tile < task.count; ++tile) {
        for (std::size_t i = 0; i < word_count(task.channels); ++i) task.tiles[tile].fired[i] = 0;
    }
}

void dense_bits(const BinaryDenseTask& task) {
    clear_bits(task);
    run_blocks(task, nullptr);
}

void exit_bits(const BinaryDenseTask& task, const ExitChecks& checks) {
    clear_bits(task);
    run_blocks(task, &checks);
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

void avx512::add_bits(const BinaryDenseTask& task) { run_blocks(task, nullptr); }

constinit const BinaryKernel conv_b1_avx512 = {"conv_b1_avx512",    kLanes, kMaxTile, dense_bits, exit_bits, prune_bits,
                                               avx512::pool_windows};
constinit const OutputKernel output_avx512 = {"output_avx512", output_sums};

}  // namespace o3bnn
