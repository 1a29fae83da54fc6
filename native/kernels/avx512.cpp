// AVX-512 with VPOPCNTDQ: eight channels a vector, popcount of xor in 64-bit lanes.
//
// A register tile is 4 patches x 32 channels: sixteen accumulators, four weight vectors, one broadcast patch word. Each
// word then costs 48 arithmetic instructions and eight loads, so the loop runs at the processor's limit for xor,
// popcount and add. Channel blocks are the outer loop: a block's weights (32 x words x 8 octets) stay in the
// first-level cache for all patches.
#include <immintrin.h>

#include <type_traits>

#include "kernels/avx512.hpp"
#include "kernels/neighbours.hpp"
#include "kernels/prune_popcnt.hpp"

namespace o3bnn {
namespace {

using avx512::kLanes;
constexpr std::size_t kPatches = 4;  // of a register tile
constexpr std::size_t kVectors = 4;

__m512i load_channels(const std::int32_t* values) {
    return _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
}

/// Bits of the lanes that are not negative, eight for each vector.
template <std::size_t C>
[[gnu::always_inline]] inline std::uint32_t fires(const __m512i (&left)[C]) {
    __mmask16 negative[2] = {};
#pragma GCC unroll 8
    for (std::size_t c = 0; c < C; c += 2) {
        const __mmask8 low = _mm512_movepi64_mask(left[c]);
        negative[c / 2] = c + 1 < C ? _mm512_kunpackb(_mm512_movepi64_mask(left[c + 1]), low) : low;
    }
    const __mmask32 both = C > 2 ? _mm512_kunpackw(negative[1], negative[0]) : negative[0];
    return ~_cvtmask32_u32(both) & static_cast<std::uint32_t>((std::uint64_t{1} << (C * kLanes)) - 1);
}

/// Subtracts the mismatches over words begin .. end - 1 of P patches and C vectors of channels.
template <std::size_t P, std::size_t C>
[[gnu::always_inline]] inline void add_words(__m512i (&left)[P][C], const BinaryTile* tiles, const Word* block,
                                             std::size_t row, std::size_t begin, std::size_t end) {
    const Word* patches[P];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) patches[p] = tiles[p].patch;
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

/// P patches, which have the same runs, x C vectors of channels from channel `channel` on: the bits that fire are set.
template <std::size_t P, std::size_t C>
struct Tile {
    const BinaryTile* tiles;
    std::size_t channel;
    __m512i left[P][C];  // mismatches that a neuron may still have if it is to fire

    [[gnu::always_inline]] Tile(const BinaryTile* tiles_, std::size_t channel_) : tiles(tiles_), channel(channel_) {
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p) {
            const bool alike = p > 0 && tiles[p].limits == tiles[0].limits;  // most patches have the first one's limits
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c)
                left[p][c] = alike ? left[0][c] : load_channels(tiles[p].limits + channel + c * kLanes);
        }
    }

    [[gnu::always_inline]] void write() const {
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p)
            tiles[p].fired[channel / kWordBits] |= Word{fires(left[p])} << (channel % kWordBits);
    }
};

/// A call all of whose tiles have one run, and the same.
struct RangeTask : BinaryDenseTask {
    WordRange range;
};

template <std::size_t P, std::size_t C>
void range_tile(const RangeTask& task, std::size_t tile, std::size_t channel) {
    Tile<P, C> bits(task.tiles + tile, channel);
    add_words(bits.left, bits.tiles, task.blocks + channel * task.words, task.words, task.range.begin, task.range.end);
    bits.write();
}

template <std::size_t C>
void range_block(const RangeTask& task, std::size_t channel) {
    std::size_t tile = 0;
    for (; tile + kPatches <= task.count; tile += kPatches) range_tile<kPatches, C>(task, tile, channel);
    for (; tile + 2 <= task.count; tile += 2) range_tile<2, C>(task, tile, channel);
    for (; tile < task.count; ++tile) range_tile<1, C>(task, tile, channel);
}

/// Any runs.
template <std::size_t P, std::size_t C>
void runs_tile(const BinaryDenseTask& task, std::size_t tile, std::size_t channel) {
    Tile<P, C> bits(task.tiles + tile, channel);
    const WordRuns& runs = *bits.tiles->runs;
    for (const WordRange* run = runs.first; run < runs.first + runs.count; ++run)
        add_words(bits.left, bits.tiles, task.blocks + channel * task.words, task.words, run->begin, run->end);
    bits.write();
}

/// The same, until all are decided.
template <std::size_t P, std::size_t C>
void exit_tile(const BinaryDenseTask& task, const ExitChecks& checks, std::size_t tile, std::size_t channel) {
    Tile<P, C> bits(task.tiles + tile, channel);
    const Word* block = task.blocks + channel * task.words;
    std::size_t check = 0;
    for (const WordRange *run = bits.tiles->runs->first, *last = run + bits.tiles->runs->count; run < last; ++run) {
        std::size_t begin = run->begin;
        for (; check < checks.count && checks.words[check] < run->end; ++check) {
            if (checks.words[check] <= begin) continue;
            add_words(bits.left, bits.tiles, block, task.words, begin, checks.words[check]);
            begin = checks.words[check];
            const Check look = {checks.tiles + tile, check * checks.stride + channel, check};
            if (!all_decided(bits.left, look)) continue;
            add_absent(bits.left, look);
            return bits.write();
        }
        add_words(bits.left, bits.tiles, block, task.words, begin, run->end);
    }
    bits.write();
}

/// Patches that have the same runs, with or without checks.
template <std::size_t P, std::size_t C>
void mixed_tile(const BinaryDenseTask& task, const ExitChecks* checks, std::size_t tile, std::size_t channel) {
    if (checks)
        exit_tile<P, C>(task, *checks, tile, channel);
    else
        runs_tile<P, C>(task, tile, channel);
}

template <std::size_t C>
void mixed_block(const BinaryDenseTask& task, const ExitChecks* checks, std::size_t channel) {
    for (std::size_t tile = 0; tile < task.count;) {
        const std::size_t end = tile + neighbours(task, tile);
        for (; tile + kPatches <= end; tile += kPatches) mixed_tile<kPatches, C>(task, checks, tile, channel);
        for (; tile + 2 <= end; tile += 2) mixed_tile<2, C>(task, checks, tile, channel);
        for (; tile < end; ++tile) mixed_tile<1, C>(task, checks, tile, channel);
    }
}

/// Calls block(vectors, first channel) for blocks of vectors of channels.
template <class Block>
void for_each_block(const BinaryDenseTask& task, Block block) {
    const std::size_t vectors = (task.channels + kLanes - 1) / kLanes;
    std::size_t vector = 0;
    for (; vector + kVectors <= vectors; vector += kVectors)
        block(std::integral_constant<std::size_t, kVectors>(), vector * kLanes);
    switch (vectors - vector) {
        case 3: return block(std::integral_constant<std::size_t, 3>(), vector * kLanes);
        case 2: return block(std::integral_constant<std::size_t, 2>(), vector * kLanes);
        case 1: return block(std::integral_constant<std::size_t, 1>(), vector * kLanes);
        default: return;
    }
}

/// Sets the bits that fire; the others must be zero already. Most calls have one range of words, which is not looked up
/// again for each register tile: with few words that would cost more than border columns save.
void run_blocks(const BinaryDenseTask& task, const ExitChecks* checks) {
    const WordRuns& runs = *task.tiles->runs;
    if (!checks && runs.count == 1 && neighbours(task, 0) == task.count) {
        const RangeTask alike = {task, *runs.first};
        for_each_block(task, [&](auto vectors, std::size_t channel) { range_block<vectors>(alike, channel); });
    } else {
        for_each_block(task, [&](auto vectors, std::size_t channel) { mixed_block<vectors>(task, checks, channel); });
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

constinit const BinaryKernel conv_b1_avx512 = {
    "conv_b1_avx512", kLanes, kMaxTile, dense_bits, exit_bits, prune_bits, avx512::pool_windows, nullptr, true};
constinit const OutputKernel output_avx512 = {"output_avx512", output_sums};

}  // namespace o3bnn
