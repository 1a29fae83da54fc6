// NEON (AArch64): two channels a vector, VCNT of octets.
//
// A register tile is 4 patches x 8 channels: sixteen accumulators of octets, four weight vectors, one patch word. An
// octet holds 31 counts of at most 8, so octets are widened once in 31 words.
#include <arm_neon.h>

#include "kernels/neighbours.hpp"
#include "kernels/pool_rows.hpp"

namespace o3bnn {
namespace {

constexpr std::size_t kLanes = 8;
constexpr std::size_t kVectors = 4;
constexpr std::size_t kPatches = 4;  // of a register tile
constexpr std::size_t kStretch = 31;

std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }
std::size_t words_of(std::size_t bits) { return (bits + kWordBits - 1) / kWordBits; }

/// Bit i is set iff lane i of `low`, then of `high`, is.
Word mask_bits(uint32x4_t low, uint32x4_t high) {
    const std::uint32_t places[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    return Word{vaddvq_u32(vandq_u32(low, vld1q_u32(places)))} + vaddvq_u32(vandq_u32(high, vld1q_u32(places + 4)));
}

/// Adds the mismatches over a run of words of P patches x 8 channels; two neighbouring lanes are one channel.
template <std::size_t P>
void add_words(const BinaryTile* tiles, const Word* block, const WordRange& run, uint32x4_t (&totals)[P][kVectors]) {
    for (std::size_t word = run.begin; word < run.end;) {
        uint8x16_t octets[P][kVectors];
#pragma GCC unroll 4
        for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 4
            for (std::size_t c = 0; c < kVectors; ++c) octets[p][c] = vdupq_n_u8(0);
        }
        for (const std::size_t stop = least(run.end, word + kStretch); word < stop; ++word) {
            uint64x2_t weights[kVectors];
#pragma GCC unroll 4
            for (std::size_t c = 0; c < kVectors; ++c) weights[c] = vld1q_u64(block + word * kLanes + 2 * c);
#pragma GCC unroll 4
            for (std::size_t p = 0; p < P; ++p) {
                const uint64x2_t patch = vdupq_n_u64(tiles[p].patch[word]);
#pragma GCC unroll 4
                for (std::size_t c = 0; c < kVectors; ++c)
                    octets[p][c] = vaddq_u8(octets[p][c], vcntq_u8(vreinterpretq_u8_u64(veorq_u64(patch, weights[c]))));
            }
        }
#pragma GCC unroll 4
        for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 4
            for (std::size_t c = 0; c < kVectors; ++c)
                totals[p][c] = vpadalq_u16(totals[p][c], vpaddlq_u8(octets[p][c]));
        }
    }
}

/// P patches that have the same runs x 8 channels, from channel `channel` on.
template <std::size_t P>
void tile_bits(const BinaryTile* tiles, const BinaryDenseTask& task, std::size_t channel) {
    uint32x4_t totals[P][kVectors];
    for (std::size_t p = 0; p < P; ++p) {
        for (std::size_t c = 0; c < kVectors; ++c) totals[p][c] = vdupq_n_u32(0);
    }
    const WordRuns& runs = *tiles->runs;
    for (std::size_t run = 0; run < runs.count; ++run)
        add_words(tiles, task.blocks + channel * task.words, runs.first[run], totals);
    for (std::size_t p = 0; p < P; ++p) {
        const int32x4_t low = vreinterpretq_s32_u32(vpaddq_u32(totals[p][0], totals[p][1]));
        const int32x4_t high = vreinterpretq_s32_u32(vpaddq_u32(totals[p][2], totals[p][3]));
        const std::int32_t* limits = tiles[p].limits + channel;
        const Word bits = mask_bits(vcleq_s32(low, vld1q_s32(limits)), vcleq_s32(high, vld1q_s32(limits + 4)));
        tiles[p].fired[channel / kWordBits] |= bits << (channel % kWordBits);
    }
}

void dense_bits(const BinaryDenseTask& task) {
    for (std::size_t tile = 0; tile < task.count; ++tile) {
        for (std::size_t word = 0; word < words_of(task.channels); ++word) task.tiles[tile].fired[word] = 0;
    }
    for (std::size_t channel = 0; channel < task.channels; channel += kLanes) {
        for (std::size_t tile = 0; tile < task.count;) {
            const std::size_t alike = neighbours(task, tile);
            if (alike >= kPatches)
                tile_bits<kPatches>(task.tiles + tile, task, channel);
            else
                tile_bits<1>(task.tiles + tile, task, channel);
            tile += alike >= kPatches ? kPatches : 1;
        }
    }
}

constexpr std::size_t kIntegerLanes = 32;  // as in conv_int_scalar
constexpr std::size_t kIntegerVectors = kIntegerLanes / 8;
constexpr std::int32_t kLargest = 32767;

/// P patches x 32 channels, from channel `channel` on, in 16-bit sums that are widened before they overflow.
template <std::size_t P>
void tile_integers(const IntegerTile* tiles, const IntegerDenseTask& task, std::size_t channel) {
    const std::int16_t* block = task.blocks + channel * task.edges;
    const auto stretch = static_cast<std::size_t>(kLargest / task.magnitude);
    std::int32_t sums[P][kIntegerLanes] = {};
    for (std::size_t edge = 0; edge < task.edges;) {
        int16x8_t narrow[P][kIntegerVectors];
#pragma GCC unroll 4
        for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 4
            for (std::size_t c = 0; c < kIntegerVectors; ++c) narrow[p][c] = vdupq_n_s16(0);
        }
        for (const std::size_t stop = least(task.edges, edge + stretch); edge < stop; ++edge) {
#pragma GCC unroll 4
            for (std::size_t c = 0; c < kIntegerVectors; ++c) {
                const int16x8_t signs = vld1q_s16(block + edge * kIntegerLanes + c * 8);
#pragma GCC unroll 4
                for (std::size_t p = 0; p < P; ++p)
                    narrow[p][c] = vmlaq_n_s16(narrow[p][c], signs, tiles[p].patch[edge]);
            }
        }
#pragma GCC unroll 4
        for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 4
            for (std::size_t c = 0; c < kIntegerVectors; ++c) {
                std::int32_t* out = sums[p] + c * 8;
                vst1q_s32(out, vaddw_s16(vld1q_s32(out), vget_low_s16(narrow[p][c])));
                vst1q_s32(out + 4, vaddw_s16(vld1q_s32(out + 4), vget_high_s16(narrow[p][c])));
            }
        }
    }
    const std::size_t channels = least(kIntegerLanes, task.channels - channel);
    for (std::size_t p = 0; p < P; ++p) {
        Word bits = 0;
        for (std::size_t c = 0; c < channels; ++c) bits |= Word{sums[p][c] >= tiles[p].thresholds[channel + c]} << c;
        tiles[p].fired[channel / kWordBits] |= bits << (channel % kWordBits);
    }
}

void dense_integers(const IntegerDenseTask& task) {
    // all zero, or a product that does not fit 16 bits: rare enough for the portable kernel, whose blocks are the same
    if (task.magnitude < 1 || task.magnitude > kLargest) return conv_int_scalar.dense(task);
    for (std::size_t tile = 0; tile < task.count; ++tile) {
        for (std::size_t word = 0; word < words_of(task.channels); ++word) task.tiles[tile].fired[word] = 0;
    }
    for (std::size_t channel = 0; channel < task.channels; channel += kIntegerLanes) {
        std::size_t tile = 0;
        for (; tile + kPatches <= task.count; tile += kPatches)
            tile_integers<kPatches>(task.tiles + tile, task, channel);
        for (; tile < task.count; ++tile) tile_integers<1>(task.tiles + tile, task, channel);
    }
}

void output_sums(const Word* bits, const Word* rows, std::size_t words, std::int32_t fan_in, std::size_t classes,
                 std::int32_t* sums) {
    for (std::size_t c = 0; c < classes; ++c, rows += words) {
        uint32x4_t mismatches = vdupq_n_u32(0);
        std::size_t word = 0;
        for (; word + 2 <= words; word += 2) {
            const uint8x16_t differ = vreinterpretq_u8_u64(veorq_u64(vld1q_u64(bits + word), vld1q_u64(rows + word)));
            mismatches = vpadalq_u16(mismatches, vpaddlq_u8(vcntq_u8(differ)));
        }
        std::uint32_t last = 0;
        if (word < words) last = vaddv_u8(vcnt_u8(vcreate_u8(bits[word] ^ rows[word])));
        sums[c] = fan_in - 2 * static_cast<std::int32_t>(vaddvq_u32(mismatches) + last);
    }
}

/// What PoolShare needs.
class Rows {
  public:
    static constexpr std::size_t kChannels = kWordBits;
    static constexpr std::size_t kCost = 2;

    static void dense(const BinaryDenseTask& task) { dense_bits(task); }

    static PairMismatches mismatches(const Word* patch, const RowPair& rows, const WordRuns& runs) {
        uint32x4_t first = vdupq_n_u32(0), second = vdupq_n_u32(0);
        for (std::size_t run = 0; run < runs.count; ++run) {
            for (std::size_t word = runs.first[run].begin; word < runs.first[run].end; word += 4) {
                const uint64x2_t low = vld1q_u64(patch + word), high = vld1q_u64(patch + word + 2);
                first = vpadalq_u16(first, octet_pairs(low, high, rows.first + word));
                second = vpadalq_u16(second, octet_pairs(low, high, rows.second + word));
            }
        }
        return {static_cast<std::int32_t>(vaddvq_u32(first)), static_cast<std::int32_t>(vaddvq_u32(second))};
    }

  private:
    /// Ones of the xor of four words, a sum a pair of octets.
    static uint16x8_t octet_pairs(uint64x2_t low, uint64x2_t high, const Word* row) {
        const uint8x16_t low_differs = vreinterpretq_u8_u64(veorq_u64(low, vld1q_u64(row)));
        const uint8x16_t high_differs = vreinterpretq_u8_u64(veorq_u64(high, vld1q_u64(row + 2)));
        return vpaddlq_u8(vaddq_u8(vcntq_u8(low_differs), vcntq_u8(high_differs)));
    }
};

// Pruning is the portable kernels'. Called, not copied from there: the objects below are to be constants, since code
// that fills them in when the library is loaded would depend on the order of initialization.
void prune_bits(const BinaryPruneTask& task) { conv_b1_scalar.prune(task); }
void prune_integers(const IntegerPruneTask& task) { conv_int_scalar.prune(task); }

}  // namespace

constinit const BinaryKernel conv_b1_neon = {"conv_b1_neon", kLanes,     kMaxTile,           dense_bits,
                                             nullptr,        prune_bits, pool_by_rows<Rows>, nullptr};
constinit const IntegerKernel conv_int_neon = {"conv_int_neon", kIntegerLanes, kMaxTile, dense_integers,
                                               prune_integers};
constinit const OutputKernel output_neon = {"output_neon", output_sums};

}  // namespace o3bnn
