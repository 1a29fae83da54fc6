// AVX-512: integer inputs. Octets are summed up by VPDPBUSD (VNNI), four edges and sixteen channels an instruction;
// inputs that are no octets by masked 16-bit additions.
#include <immintrin.h>

#include "kernels/avx512.hpp"

namespace o3bnn {
namespace {

constexpr std::size_t kPatches = 4;  // of a register tile
constexpr std::size_t kVectors = 4;
constexpr std::size_t kOctetLanes = 16;

std::int32_t four_octets(const std::uint8_t* octets) {
    std::int32_t four;
    __builtin_memcpy(&four, octets, sizeof four);
    return four;
}

/// P patches x C vectors of 16 channels, from channel `channel` on, a multiple of 64.
template <std::size_t P, std::size_t C>
void tile_octets(const OctetTile* tiles, const OctetDenseTask& task, std::size_t channel) {
    const std::int8_t* block = task.blocks + channel * task.steps * kOctetStep;
    __m512i sums[P][C];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) sums[p][c] = _mm512_setzero_si512();
    }
    for (std::size_t step = 0; step < task.steps; ++step) {
        __m512i signs[C];
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) signs[c] = _mm512_loadu_si512(block + (c * task.steps + step) * 64);
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p) {
            const __m512i x = _mm512_set1_epi32(four_octets(tiles[p].patch + step * kOctetStep));
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) sums[p][c] = _mm512_dpbusd_epi32(sums[p][c], x, signs[c]);
        }
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
        Word fired = 0;
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const __m512i limits = _mm512_loadu_si512(tiles[p].limits + channel + c * kOctetLanes);
            fired |= Word{_cvtmask16_u32(_mm512_cmpge_epi32_mask(sums[p][c], limits))} << (c * kOctetLanes);
        }
        tiles[p].fired[channel / kWordBits] = fired;
    }
}

template <std::size_t C>
void block_octets(const OctetDenseTask& task, std::size_t channel) {
    std::size_t tile = 0;
    for (; tile + kPatches <= task.count; tile += kPatches) tile_octets<kPatches, C>(task.tiles + tile, task, channel);
    for (; tile < task.count; ++tile) tile_octets<1, C>(task.tiles + tile, task, channel);
}

void dense_octets(const OctetDenseTask& task) {
    const std::size_t vectors = (task.channels + kOctetLanes - 1) / kOctetLanes;
    std::size_t vector = 0;
    for (; vector + kVectors <= vectors; vector += kVectors) block_octets<kVectors>(task, vector * kOctetLanes);
    const std::size_t channel = vector * kOctetLanes;
    switch (vectors - vector) {
        case 3: return block_octets<3>(task, channel);
        case 2: return block_octets<2>(task, channel);
        case 1: return block_octets<1>(task, channel);
        default: return;
    }
}

constexpr std::size_t kIntegerLanes = 32;  // 16-bit sums
constexpr std::size_t kLargest = 32767;

/// sum += x in the 16-bit lanes of `mask`. In assembly, since GCC 12 copies every accumulator around the intrinsic.
void add_where(__mmask32 mask, __m512i x, __m512i& sum) {
    asm("vpaddw %2, %0, %0%{%1%}" : "+v"(sum) : "Yk"(mask), "v"(x));
}

std::int32_t sum_of(const std::int16_t* patch, std::size_t edges) {
    std::int32_t sum = 0;
    for (std::size_t edge = 0; edge < edges; ++edge) sum += patch[edge];
    return sum;
}

/// 32 thresholds as 16-bit integers; those beyond the last channel are the greatest, which no sum reaches.
__m512i narrow_thresholds(const std::int32_t* thresholds, std::size_t channels) {
    const __mmask32 exist = channels >= kIntegerLanes ? ~__mmask32{0} : ~(~__mmask32{0} << channels);
    const __m512i beyond = _mm512_set1_epi32(static_cast<int>(kLargest));
    const __m512i low = _mm512_mask_loadu_epi32(beyond, static_cast<__mmask16>(exist), thresholds);
    const __m512i high = _mm512_mask_loadu_epi32(beyond, static_cast<__mmask16>(exist >> 16), thresholds + 16);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi32_epi16(low)), _mm512_cvtsepi32_epi16(high), 1);
}

/// Sums of the inputs whose weight is -1, over the edges begin .. end - 1, by a masked addition each; 16-bit lanes.
template <std::size_t P, std::size_t C>
void negative_sums(const IntegerTile* tiles, const IntegerDenseTask& task, std::size_t channel, std::size_t begin,
                   std::size_t end, __m512i (&sums)[P][C]) {
    const std::int16_t* block = task.blocks + channel * task.edges;
    __m512i negative[P][C];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) negative[p][c] = _mm512_setzero_si512();
    }
    for (std::size_t edge = begin; edge < end; ++edge) {
        __mmask32 minus[C];
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c)
            minus[c] = _mm512_movepi16_mask(_mm512_loadu_si512(block + (c * task.edges + edge) * kIntegerLanes));
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p) {
            const __m512i x = _mm512_set1_epi16(tiles[p].patch[edge]);
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) add_where(minus[c], x, negative[p][c]);
        }
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) sums[p][c] = negative[p][c];
    }
}

void write_bits(const IntegerTile& tile, std::size_t first, std::uint32_t fires) {
    __builtin_memcpy(reinterpret_cast<char*>(tile.fired) + first / 8, &fires, sizeof fires);
}

/// P patches x C vectors of 32 channels, from channel `channel` on, where signed sums fit 16 bits. The signed sum is
/// the sum of all inputs less twice that of those whose weight is -1.
template <std::size_t P, std::size_t C>
void tile_integers(const IntegerTile* tiles, const IntegerDenseTask& task, std::size_t channel) {
    __m512i negative[P][C];
    negative_sums<P, C>(tiles, task, channel, 0, task.edges, negative);
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
        const __m512i all = _mm512_set1_epi16(static_cast<std::int16_t>(sum_of(tiles[p].patch, task.edges)));
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const std::size_t first = channel + c * kIntegerLanes;
            const __m512i sums = _mm512_sub_epi16(all, _mm512_slli_epi16(negative[p][c], 1));
            const __m512i thresholds = narrow_thresholds(tiles[p].thresholds + first, task.channels - first);
            write_bits(tiles[p], first, _cvtmask32_u32(_mm512_cmpge_epi16_mask(sums, thresholds)));
        }
    }
}

/// The same for larger sums: 16-bit sums over as many edges as cannot overflow, added up in 32 bits.
template <std::size_t P, std::size_t C>
void tile_wide_integers(const IntegerTile* tiles, const IntegerDenseTask& task, std::size_t channel) {
    const auto stretch = kLargest / static_cast<std::size_t>(task.magnitude);
    __m512i wide[P][2 * C];
    for (std::size_t p = 0; p < P; ++p) {
        for (std::size_t c = 0; c < 2 * C; ++c) wide[p][c] = _mm512_setzero_si512();
    }
    for (std::size_t edge = 0; edge < task.edges; edge += stretch) {
        __m512i negative[P][C];
        negative_sums<P, C>(tiles, task, channel, edge, edge + stretch < task.edges ? edge + stretch : task.edges,
                            negative);
        for (std::size_t p = 0; p < P; ++p) {
            for (std::size_t c = 0; c < C; ++c) {
                const __m256i low = _mm512_castsi512_si256(negative[p][c]),
                              high = _mm512_extracti64x4_epi64(negative[p][c], 1);
                wide[p][2 * c] = _mm512_add_epi32(wide[p][2 * c], _mm512_cvtepi16_epi32(low));
                wide[p][2 * c + 1] = _mm512_add_epi32(wide[p][2 * c + 1], _mm512_cvtepi16_epi32(high));
            }
        }
    }
    for (std::size_t p = 0; p < P; ++p) {
        const __m512i all = _mm512_set1_epi32(sum_of(tiles[p].patch, task.edges));
        for (std::size_t c = 0; c < C; ++c) {
            const std::size_t first = channel + c * kIntegerLanes, left = task.channels - first;
            const __mmask32 exist = left >= kIntegerLanes ? ~__mmask32{0} : ~(~__mmask32{0} << left);
            std::uint32_t fires = 0;
            for (std::size_t half = 0; half < 2; ++half) {
                const auto some = static_cast<__mmask16>(exist >> (16 * half));
                const __m512i sums = _mm512_sub_epi32(all, _mm512_slli_epi32(wide[p][2 * c + half], 1));
                const __m512i thresholds = _mm512_maskz_loadu_epi32(some, tiles[p].thresholds + first + 16 * half);
                fires |= static_cast<std::uint32_t>(_mm512_mask_cmpge_epi32_mask(some, sums, thresholds))
                         << (16 * half);
            }
            write_bits(tiles[p], first, fires);
        }
    }
}

template <std::size_t P, std::size_t C>
void tile_of_integers(const IntegerTile* tiles, const IntegerDenseTask& task, std::size_t channel) {
    if (static_cast<std::size_t>(task.magnitude) * task.edges < kLargest)
        tile_integers<P, C>(tiles, task, channel);
    else
        tile_wide_integers<P, C>(tiles, task, channel);
}

template <std::size_t C>
void block_integers(const IntegerDenseTask& task, std::size_t channel) {
    std::size_t tile = 0;
    for (; tile + kPatches <= task.count; tile += kPatches)
        tile_of_integers<kPatches, C>(task.tiles + tile, task, channel);
    for (; tile < task.count; ++tile) tile_of_integers<1, C>(task.tiles + tile, task, channel);
}

void dense_integers(const IntegerDenseTask& task) {
    // A single edge that does not fit 16 bits is left to the portable kernel, whose blocks are the same.
    if (task.magnitude > static_cast<std::int32_t>(kLargest)) return conv_int_scalar.dense(task);
    for (std::size_t tile = 0; tile < task.count; ++tile) {
        for (std::size_t word = 0; word < word_count(task.channels); ++word) task.tiles[tile].fired[word] = 0;
    }
    const std::size_t vectors = (task.channels + kIntegerLanes - 1) / kIntegerLanes;
    std::size_t vector = 0;
    for (; vector + kVectors <= vectors; vector += kVectors) block_integers<kVectors>(task, vector * kIntegerLanes);
    const std::size_t channel = vector * kIntegerLanes;
    switch (vectors - vector) {
        case 3: return block_integers<3>(task, channel);
        case 2: return block_integers<2>(task, channel);
        case 1: return block_integers<1>(task, channel);
        default: return;
    }
}

// The portable kernel's; wrapped, so that nothing of this file runs when the library loads.
void prune_integers(const IntegerPruneTask& task) { conv_int_scalar.prune(task); }

}  // namespace

constinit const IntegerKernel conv_int_avx512 = {
    "conv_int_avx512", kIntegerLanes, kMaxTile,     dense_integers,      prune_integers,
    kOctetLanes,       dense_octets,  avx512::kTableLanes, avx512::make_tables, avx512::by_tables};

}  // namespace o3bnn
