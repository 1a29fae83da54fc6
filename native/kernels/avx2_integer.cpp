// AVX2: integer inputs. Octets are multiplied and added in pairs by VPMADDUBSW; inputs that are no octets are added
// with their signs in 16 bits.
#include <immintrin.h>

#include "kernels/kernel.hpp"

namespace o3bnn {
namespace {

std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }
std::size_t words_of(std::size_t bits) { return (bits + kWordBits - 1) / kWordBits; }

/// sum += x in 16-bit lanes; in assembly, since GCC 12 copies every accumulator around the intrinsic.
void add_integers(__m256i& sum, __m256i x) { asm("vpaddw %1, %0, %0" : "+x"(sum) : "x"(x)); }

constexpr std::size_t kOctetLanes = 8;
constexpr std::size_t kOctetVectors = 4;   // of a register tile: half a word of channels
constexpr std::size_t kOctetStretch = 64;  // steps whose sums fit 16 bits: 64 times two octets

std::int32_t four_octets(const std::uint8_t* octets) {
    std::int32_t four;
    __builtin_memcpy(&four, octets, sizeof four);
    return four;
}

/// Adds up steps begin .. end - 1, kOctetStretch at most: two sums of 16 bits a channel.
template <std::size_t P, std::size_t C>
[[gnu::always_inline]] inline void add_octets(const OctetTile* tiles, const std::int8_t* block, std::size_t steps,
                                              std::size_t begin, std::size_t end, __m256i (&sums)[P][C]) {
    for (std::size_t step = begin; step < end; ++step) {
        __m256i x[P];
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p) x[p] = _mm256_set1_epi32(four_octets(tiles[p].patch + step * kOctetStep));
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const __m256i signs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + (c * steps + step) * 32));
#pragma GCC unroll 8
            for (std::size_t p = 0; p < P; ++p) add_integers(sums[p][c], _mm256_maddubs_epi16(x[p], signs));
        }
    }
}

/// P patches x C vectors of 8 channels, from channel `channel` on.
template <std::size_t P, std::size_t C>
void tile_octets(const OctetTile* tiles, const OctetDenseTask& task, std::size_t channel) {
    const std::int8_t* block = task.blocks + channel * task.steps * kOctetStep;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i narrow[P][C];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) narrow[p][c] = _mm256_setzero_si256();
    }
    add_octets(tiles, block, task.steps, 0, least(task.steps, kOctetStretch), narrow);
    __m256i wide[P][C];  // one sum of 32 bits a channel
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) wide[p][c] = _mm256_madd_epi16(narrow[p][c], ones);
    }
    for (std::size_t step = kOctetStretch; step < task.steps; step += kOctetStretch) {
        for (std::size_t p = 0; p < P; ++p) {
            for (std::size_t c = 0; c < C; ++c) narrow[p][c] = _mm256_setzero_si256();
        }
        add_octets(tiles, block, task.steps, step, least(task.steps, step + kOctetStretch), narrow);
        for (std::size_t p = 0; p < P; ++p) {
            for (std::size_t c = 0; c < C; ++c)
                wide[p][c] = _mm256_add_epi32(wide[p][c], _mm256_madd_epi16(narrow[p][c], ones));
        }
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
        Word silent = 0;
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const auto* at = reinterpret_cast<const __m256i*>(tiles[p].limits + channel + c * kOctetLanes);
            const __m256i below = _mm256_cmpgt_epi32(_mm256_loadu_si256(at), wide[p][c]);
            silent |= static_cast<Word>(_mm256_movemask_ps(_mm256_castsi256_ps(below))) << (c * kOctetLanes);
        }
        constexpr Word kAll = (Word{1} << (C * kOctetLanes)) - 1;
        tiles[p].fired[channel / kWordBits] |= (silent ^ kAll) << (channel % kWordBits);
    }
}

template <std::size_t C>
void block_octets(const OctetDenseTask& task, std::size_t channel) {
    std::size_t tile = 0;
    for (; tile + 2 <= task.count; tile += 2) tile_octets<2, C>(task.tiles + tile, task, channel);
    if (tile < task.count) tile_octets<1, C>(task.tiles + tile, task, channel);
}

void dense_octets(const OctetDenseTask& task) {
    for (std::size_t tile = 0; tile < task.count; ++tile) {
        for (std::size_t word = 0; word < words_of(task.channels); ++word) task.tiles[tile].fired[word] = 0;
    }
    const std::size_t vectors = (task.channels + kOctetLanes - 1) / kOctetLanes;
    std::size_t vector = 0;
    for (; vector + kOctetVectors <= vectors; vector += kOctetVectors)
        block_octets<kOctetVectors>(task, vector * kOctetLanes);
    for (; vector < vectors; ++vector) block_octets<1>(task, vector * kOctetLanes);
}
constexpr std::size_t kIntegerLanes = 32;  // as in conv_int_scalar
constexpr std::size_t kIntegerVector = 16;
constexpr std::int32_t kLargest = 32767;

/// The bits of kIntegerLanes channels, of which the first `channels` exist.
Word fires(const __m256i* sums, const std::int32_t* thresholds, std::size_t channels) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    Word bits = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        const __m256i exist = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(channels) - 8 * i), lane);
        const __m256i silent = _mm256_cmpgt_epi32(_mm256_maskload_epi32(thresholds + 8 * i, exist), sums[i]);
        bits |= static_cast<Word>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_andnot_si256(silent, exist))))
                << (8 * i);
    }
    return bits;
}

/// P patches x C vectors of 16 channels, from channel `channel` on, in 16-bit sums that are widened before they
/// overflow.
template <std::size_t P, std::size_t C>
void tile_integers(const IntegerTile* tiles, const IntegerDenseTask& task, std::size_t channel) {
    const std::int16_t* block = task.blocks + channel * task.edges;
    const auto stretch = static_cast<std::size_t>(kLargest / task.magnitude);
    __m256i wide[P][2 * C];
    for (std::size_t p = 0; p < P; ++p) {
        for (std::size_t c = 0; c < 2 * C; ++c) wide[p][c] = _mm256_setzero_si256();
    }
    for (std::size_t edge = 0; edge < task.edges;) {
        __m256i narrow[P][C];
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) narrow[p][c] = _mm256_setzero_si256();
        }
        for (const std::size_t stop = least(task.edges, edge + stretch); edge < stop; ++edge) {
            __m256i x[P];
#pragma GCC unroll 8
            for (std::size_t p = 0; p < P; ++p) x[p] = _mm256_set1_epi16(tiles[p].patch[edge]);
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) {
                const std::int16_t* signs =
                    block + (c / 2 * task.edges + edge) * kIntegerLanes + c % 2 * kIntegerVector;
                const __m256i sign = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(signs));
#pragma GCC unroll 8
                for (std::size_t p = 0; p < P; ++p) add_integers(narrow[p][c], _mm256_sign_epi16(x[p], sign));
            }
        }
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) {
                const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(narrow[p][c]));
                const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(narrow[p][c], 1));
                wide[p][2 * c] = _mm256_add_epi32(wide[p][2 * c], low);
                wide[p][2 * c + 1] = _mm256_add_epi32(wide[p][2 * c + 1], high);
            }
        }
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < 2 * C; c += 4) {
            const std::size_t first = channel + c * 8;
            const Word bits =
                fires(wide[p] + c, tiles[p].thresholds + first, least(kIntegerLanes, task.channels - first));
            tiles[p].fired[first / kWordBits] |= bits << (first % kWordBits);
        }
    }
}

template <std::size_t C>
void block_integers(const IntegerDenseTask& task, std::size_t channel) {
    std::size_t tile = 0;
    for (; tile + 2 <= task.count; tile += 2) tile_integers<2, C>(task.tiles + tile, task, channel);
    if (tile < task.count) tile_integers<1, C>(task.tiles + tile, task, channel);
}

void dense_integers(const IntegerDenseTask& task) {
    // all zero, or a product that does not fit 16 bits: rare enough for the portable kernel, whose blocks are the same
    if (task.magnitude < 1 || task.magnitude > kLargest) return conv_int_scalar.dense(task);
    for (std::size_t tile = 0; tile < task.count; ++tile) {
        for (std::size_t word = 0; word < words_of(task.channels); ++word) task.tiles[tile].fired[word] = 0;
    }
    std::size_t channel = 0;
    for (; channel + kIntegerLanes < task.channels; channel += 2 * kIntegerLanes) block_integers<4>(task, channel);
    if (channel < task.channels) block_integers<2>(task, channel);
}

// The portable kernel's. Called, not copied from there: the objects below are to be constants, since code that fills
// them in when the library is loaded would use AVX2 on every machine.
void prune_integers(const IntegerPruneTask& task) { conv_int_scalar.prune(task); }

}  // namespace

constinit const IntegerKernel conv_int_avx2 = {"conv_int_avx2", kIntegerLanes, kMaxTile,    dense_integers,
                                               prune_integers,  kOctetLanes,   dense_octets};

}  // namespace o3bnn
