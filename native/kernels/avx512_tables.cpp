// AVX-512: octets by look-up. VPERMI2W looks sums of six octets up in a table of 64, for 32 channels at once: 192 edges
// with it and an addition, where VPDPBUSD sums up 64.
#include <immintrin.h>

#include "kernels/avx512.hpp"

namespace o3bnn::avx512 {
namespace {

constexpr std::size_t kPatches = 4;  // of a register tile
constexpr std::size_t kVectors = 4;

/// Weights of octets 2 pair and 2 pair + 1 in entries `first` .. `first + 31` of a table.
struct alignas(64) PairSigns {
    std::int8_t value[64];

    constexpr PairSigns(unsigned pair, unsigned first) : value{} {
        for (unsigned i = 0; i < 64; ++i) value[i] = (first + i / 2) >> (2 * pair + i % 2) & 1 ? 1 : -1;
    }
};

__m512i load_signs(const PairSigns& signs) { return _mm512_load_si512(signs.value); }

__m512i two_octets(const std::uint8_t* octets) {
    std::int16_t two;
    __builtin_memcpy(&two, octets, sizeof two);
    return _mm512_set1_epi16(two);
}

/// sum += x in 16-bit lanes. In assembly, since GCC 12 copies every accumulator around the intrinsic.
void add_lanes(__m512i& sum, __m512i x) { asm("vpaddw %1, %0, %0" : "+v"(sum) : "v"(x)); }

/// The entries of 32 channels. In assembly, since GCC 12 would read the table from memory for each vector of channels.
__m512i look_up(__m512i index, __m512i low, __m512i high) {
    asm("vpermi2w %2, %1, %0" : "+v"(index) : "v"(low), "v"(high));
    return index;
}

/// Adds the entries of kernel rows begin .. end - 1.
template <std::size_t P, std::size_t C>
[[gnu::always_inline]] inline void add_entries(__m512i (&sums)[P][C], const TableTask& task,
                                               const std::size_t (&tables)[P], const std::uint16_t* indices,
                                               std::size_t begin, std::size_t end) {
    const std::size_t vector = task.kernel_rows * task.groups * kTableLanes;
    indices += begin * task.groups * kTableLanes;
    for (std::size_t row = begin; row < end; ++row) {
        const std::int16_t* table = task.rows[row];
        for (std::size_t group = 0; group < task.groups; ++group) {
            __m512i index[C];
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) index[c] = _mm512_load_si512(indices + c * vector);
#pragma GCC unroll 8
            for (std::size_t p = 0; p < P; ++p) {
                const __m512i low = _mm512_load_si512(table + tables[p]);
                const __m512i high = _mm512_load_si512(table + tables[p] + kTableEntries / 2);
#pragma GCC unroll 8
                for (std::size_t c = 0; c < C; ++c) add_lanes(sums[p][c], look_up(index[c], low, high));
            }
            indices += kTableLanes;
            table += task.group_step * kTableEntries;
        }
    }
}

/// The sums of a stretch of kernel rows, in 16 bits.
template <std::size_t P, std::size_t C>
[[gnu::always_inline]] inline void sum_stretch(__m512i (&sums)[P][C], const TableTask& task,
                                               const TableTile* tiles, std::size_t vector, std::size_t row) {
    const std::size_t lanes = (task.channels + kTableLanes - 1) / kTableLanes * kTableLanes;
    const std::int16_t* starts = task.starts + row / task.stretch * lanes + vector * kTableLanes;
    const std::size_t end = row + task.stretch < task.kernel_rows ? row + task.stretch : task.kernel_rows;
    std::size_t tables[P];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) sums[p][c] = _mm512_load_si512(starts + c * kTableLanes);
        tables[p] = tiles[p].table * kTableEntries;
    }
    add_entries(sums, task, tables, task.indices + vector * task.kernel_rows * task.groups * kTableLanes, row, end);
}

/// P positions x C vectors of channels from vector `vector` on; all kernel rows are one stretch.
template <std::size_t P, std::size_t C>
void narrow_tile(const TableTask& task, const TableTile* tiles, std::size_t vector) {
    __m512i sums[P][C];
    sum_stretch(sums, task, tiles, vector, 0);
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
        const __m512i beyond = _mm512_set1_epi16(static_cast<std::int16_t>(tiles[p].beyond));
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const std::size_t channel = (vector + c) * kTableLanes;
            const __m512i below = _mm512_loadu_si512(tiles[p].narrow + channel);
            const __mmask32 fires = _mm512_cmpgt_epi16_mask(_mm512_add_epi16(sums[p][c], beyond), below);
            tiles[p].fired[channel / kWordBits] |= Word{_cvtmask32_u32(fires)} << (channel % kWordBits);
        }
    }
}

/// The same for several stretches: 32-bit sums.
template <std::size_t P, std::size_t C>
void wide_tile(const TableTask& task, const TableTile* tiles, std::size_t vector) {
    __m512i totals[P][C][2];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) totals[p][c][0] = totals[p][c][1] = _mm512_set1_epi32(tiles[p].beyond);
    }
    for (std::size_t row = 0; row < task.kernel_rows; row += task.stretch) {
        __m512i sums[P][C];
        sum_stretch(sums, task, tiles, vector, row);
#pragma GCC unroll 8
        for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
            for (std::size_t c = 0; c < C; ++c) {
                const __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sums[p][c]));
                const __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sums[p][c], 1));
                totals[p][c][0] = _mm512_add_epi32(totals[p][c][0], low);
                totals[p][c][1] = _mm512_add_epi32(totals[p][c][1], high);
            }
        }
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) {
            const std::size_t channel = (vector + c) * kTableLanes;
            const std::int32_t* limits = tiles[p].limits + channel;
            const __mmask16 low = _mm512_cmpge_epi32_mask(totals[p][c][0], _mm512_loadu_si512(limits));
            const __mmask16 high = _mm512_cmpge_epi32_mask(totals[p][c][1], _mm512_loadu_si512(limits + 16));
            tiles[p].fired[channel / kWordBits] |= Word{_cvtmask32_u32(_mm512_kunpackw(high, low))}
                                                   << (channel % kWordBits);
        }
    }
}

template <std::size_t P, std::size_t C>
void tile_tables(const TableTask& task, const TableTile* tiles, std::size_t vector) {
    if (task.stretch >= task.kernel_rows)
        narrow_tile<P, C>(task, tiles, vector);
    else
        wide_tile<P, C>(task, tiles, vector);
}

template <std::size_t C>
void block_tables(const TableTask& task, std::size_t vector) {
    std::size_t tile = 0;
    for (; tile + kPatches <= task.count; tile += kPatches) tile_tables<kPatches, C>(task, task.tiles + tile, vector);
    for (; tile + 2 <= task.count; tile += 2) tile_tables<2, C>(task, task.tiles + tile, vector);
    if (tile < task.count) tile_tables<1, C>(task, task.tiles + tile, vector);
}

}  // namespace

void make_tables(const std::uint8_t* octets, std::size_t step, std::size_t count, std::int16_t* out) {
    static constexpr PairSigns first(0, 0), second(1, 0), third[2] = {{2, 0}, {2, kTableEntries / 2}};
    const __m512i signs0 = load_signs(first), signs1 = load_signs(second);
    const __m512i signs2 = load_signs(third[0]), signs3 = load_signs(third[1]);
    for (std::size_t i = 0; i < count; ++i, octets += step, out += kTableEntries) {
        const __m512i four = _mm512_add_epi16(_mm512_maddubs_epi16(two_octets(octets), signs0),
                                              _mm512_maddubs_epi16(two_octets(octets + 2), signs1));
        const __m512i last = two_octets(octets + 4);
        _mm512_store_si512(out, _mm512_add_epi16(four, _mm512_maddubs_epi16(last, signs2)));
        _mm512_store_si512(out + kTableEntries / 2, _mm512_add_epi16(four, _mm512_maddubs_epi16(last, signs3)));
    }
}

void by_tables(const TableTask& task) {
    for (std::size_t tile = 0; tile < task.count; ++tile) {
        for (std::size_t i = 0; i < word_count(task.channels); ++i) task.tiles[tile].fired[i] = 0;
    }
    const std::size_t vectors = (task.channels + kTableLanes - 1) / kTableLanes;
    std::size_t vector = 0;
    for (; vector + kVectors <= vectors; vector += kVectors) block_tables<kVectors>(task, vector);
    switch (vectors - vector) {
        case 3: return block_tables<3>(task, vector);
        case 2: return block_tables<2>(task, vector);
        case 1: return block_tables<1>(task, vector);
        default: return;
    }
}

}  // namespace o3bnn::avx512
