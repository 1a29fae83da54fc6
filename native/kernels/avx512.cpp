// AVX-512 with VPOPCNTDQ: eight channels a vector, popcount of xor in 64-bit lanes.
//
// A register tile is 4 patches x 32 channels: sixteen accumulators, four weight vectors, one broadcast patch word. Each word
// then costs 48 arithmetic instructions and eight loads, so the loop runs at the processor's limit for xor, popcount and add.
// Channel blocks are the outer loop: a block's weights (32 x words x 8 octets) stay in the first-level cache for all patches.
#include <immintrin.h>

#include "kernels/prune_popcnt.hpp"

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
void tile_bits(const BinaryTile* tiles, const BinaryDenseTask& task, std::size_t channel) {
    const Word* block = task.blocks + channel * task.words;
    __m512i mismatches[P][C];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) mismatches[p][c] = _mm512_setzero_si512();
    }
    const Word* patches[P];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < P; ++p) patches[p] = tiles[p].patch;
    for (std::size_t word = task.begin; word < task.end; ++word) {
        __m512i weights[C];
#pragma GCC unroll 8
        for (std::size_t c = 0; c < C; ++c) weights[c] = _mm512_loadu_si512(block + (c * task.words + word) * kLanes);
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
    std::size_t tile = 0;
    for (; tile + kPatches <= task.count; tile += kPatches) tile_bits<kPatches, C>(task.tiles + tile, task, channel);
    for (; tile + 2 <= task.count; tile += 2) tile_bits<2, C>(task.tiles + tile, task, channel);
    for (; tile < task.count; ++tile) tile_bits<1, C>(task.tiles + tile, task, channel);
}

/// Sets the bits that fire; the others must be zero already.
void add_bits(const BinaryDenseTask& task) {
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

void dense_bits(const BinaryDenseTask& task) {
    for (std::size_t tile = 0; tile < task.count; ++tile) {
        for (std::size_t i = 0; i < word_count(task.channels); ++i) task.tiles[tile].fired[i] = 0;
    }
    add_bits(task);
}

constexpr std::size_t kChannels = kWordBits;  // of a pooling block: one word of the result

/// Sums of the lanes of eight vectors: lane i of the result is the sum over vector i.
__m512i sum_lanes(const __m512i (&v)[8]) {
    __m512i pairs[4], quads[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
        pairs[i] = _mm512_add_epi64(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
        quads[i] = _mm512_add_epi64(_mm512_shuffle_i64x2(pairs[2 * i], pairs[2 * i + 1], 0x88),
                                    _mm512_shuffle_i64x2(pairs[2 * i], pairs[2 * i + 1], 0xdd));
    return _mm512_add_epi64(_mm512_shuffle_i64x2(quads[0], quads[1], 0x88), _mm512_shuffle_i64x2(quads[0], quads[1], 0xdd));
}

/// The open channels of a block, in order, and their limits; filled up with channels whose bits are not used.
struct ChannelList {
    alignas(64) std::uint8_t channels[kChannels];
    alignas(64) std::int32_t limits[kChannels + 16];

    ChannelList(Word open, const std::int32_t* all, Word exist) {
        alignas(64) static constexpr auto counting = [] {
            struct { std::uint8_t value[kChannels]; } numbers{};
            for (std::size_t i = 0; i < kChannels; ++i) numbers.value[i] = static_cast<std::uint8_t>(i);
            return numbers;
        }();
        _mm512_store_si512(channels, _mm512_maskz_compress_epi8(open, _mm512_load_si512(counting.value)));
        std::size_t filled = 0;
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            const auto some = static_cast<__mmask16>(open >> (16 * i));
            const auto readable = static_cast<__mmask16>(exist >> (16 * i));
            const __m512i limit = _mm512_maskz_loadu_epi32(readable, all + 16 * i);
            _mm512_storeu_si512(limits + filled, _mm512_maskz_compress_epi32(some, limit));
            filled += static_cast<std::size_t>(_mm_popcnt_u32(some));
        }
    }
};

/// Mismatches of N listed channels, one row of weights each, the words of a row side by side in a vector.
template <std::size_t N>
__m512i listed_mismatches(const BinaryPoolTask& task, const Word* patch, const Word* rows, const std::uint8_t* channels) {
    const std::size_t whole = task.words / kLanes * kLanes, rest = task.words - whole;
    const Word* row[N];
    __m512i differ[8];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 8; ++i) differ[i] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (std::size_t i = 0; i < N; ++i) row[i] = rows + channels[i] * task.row_words;
    const std::size_t vectors = whole + (rest > kLanes / 2 ? kLanes : 0);
    for (std::size_t word = 0; word < vectors; word += kLanes) {
        const __m512i x = _mm512_loadu_si512(patch + word);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < N; ++i) {
            const __m512i mismatches = _mm512_popcnt_epi64(_mm512_xor_si512(x, _mm512_loadu_si512(row[i] + word)));
            differ[i] = _mm512_add_epi64(differ[i], mismatches);
        }
    }
    if (rest > 0 && rest <= kLanes / 2) {  // half a vector costs half as much where the processor splits vectors
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(patch + whole));
#pragma GCC unroll 8
        for (std::size_t i = 0; i < N; ++i) {
            const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row[i] + whole));
            const __m256i mismatches = _mm256_popcnt_epi64(_mm256_xor_si256(x, weights));
            differ[i] = _mm512_add_epi64(differ[i], _mm512_zextsi256_si512(mismatches));
        }
    }
    return sum_lanes(differ);
}

/// Bits of the open channels of the block from channel `first` on.
Word listed_bits(const BinaryPoolTask& task, const PoolTile& tile, std::size_t first, Word open, Word exist) {
    const ChannelList list(open, tile.limits + first, exist);
    const Word* rows = task.rows + first * task.row_words;
    const auto count = static_cast<std::size_t>(_mm_popcnt_u64(open));
    Word fired = 0;  // in the order of the list
    for (std::size_t at = 0; at < count; at += 8) {
        const std::uint8_t* channels = list.channels + at;
        const __m512i mismatches = count - at > 4 ? listed_mismatches<8>(task, tile.patch, rows, channels)
                                                  : listed_mismatches<4>(task, tile.patch, rows, channels);
        const __m256i limit = _mm256_load_si256(reinterpret_cast<const __m256i*>(list.limits + at));
        const __mmask8 fires = _mm256_cmple_epi32_mask(_mm512_cvtepi64_epi32(mismatches), limit);
        fired |= Word{_cvtmask8_u32(fires)} << at;
    }
    return _pdep_u64(fired, open);
}

/// Above this many open channels of a block a register tile over all of them is faster than a list (instruction counts:
/// 12 cycles a word for 64 channels, against 12 a vector and about 28 of overhead for eight listed ones).
int list_limit(std::size_t words) {
    const std::size_t rest = words % kLanes;
    const std::size_t halves = words / kLanes * 2 + (rest > kLanes / 2 ? 2 : rest > 0 ? 1 : 0);
    return static_cast<int>(96 * words / (6 * halves + 28));
}

/// Windows of one block of channels; the first position is evaluated for all of them.
class PoolBlock {
  public:
    PoolBlock(const BinaryPoolTask& task, std::size_t index)
        : task_(task),
          first_(index * kChannels),
          channels_(task.channels - first_ < kChannels ? task.channels - first_ : kChannels),
          decisive_(task.decisive[index]),
          exist_(task.exist[index]) {}

    void run() {
        const int limit = list_limit(task_.words);
        for (std::size_t window = 0; window < task_.count; ++window) settled_[window] = 0;
        for (std::size_t position = 0; position < task_.positions; ++position) {
            const PoolTile* tiles = task_.tiles + position * task_.count;
            for (std::size_t window = 0; window < task_.count; ++window) {
                const Word open = exist_ & ~settled_[window];
                if (!open) continue;
                if (position == 0 || __builtin_popcountll(open) > limit)
                    queue(tiles, window);
                else
                    settle(window, open, listed_bits(task_, tiles[window], first_, open, exist_));
            }
            flush();
        }
        for (std::size_t window = 0; window < task_.count; ++window)
            task_.results[window][first_ / kWordBits] = ~(settled_[window] ^ decisive_) & exist_;
    }

  private:
    void settle(std::size_t window, Word open, Word fired) { settled_[window] |= open & ~(fired ^ decisive_); }

    void queue(const PoolTile* tiles, std::size_t window) {
        queued_[pending_] = window;
        dense_[pending_] = {tiles[window].patch, tiles[window].limits + first_, fired_ + pending_};
        fired_[pending_++] = 0;
    }

    void flush() {
        if (pending_ == 0) return;
        add_bits({dense_, pending_, task_.blocks + first_ * task_.words, task_.words, 0, task_.words, channels_});
        for (std::size_t i = 0; i < pending_; ++i) settle(queued_[i], exist_ & ~settled_[queued_[i]], fired_[i]);
        pending_ = 0;
    }

    const BinaryPoolTask& task_;
    std::size_t first_, channels_;
    Word decisive_, exist_;
    Word settled_[kMaxTile], fired_[kMaxTile];
    BinaryTile dense_[kMaxTile];
    std::size_t queued_[kMaxTile];
    std::size_t pending_ = 0;
};

void pool_windows(const BinaryPoolTask& task) {
    for (std::size_t index = 0; index < word_count(task.channels); ++index) PoolBlock(task, index).run();
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

/// P patches x C vectors of 32 channels, from channel `channel` on, where signed sums fit 16 bits. The signed sum is the sum
/// of all inputs less twice that of those whose weight is -1.
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
        negative_sums<P, C>(tiles, task, channel, edge, edge + stretch < task.edges ? edge + stretch : task.edges, negative);
        for (std::size_t p = 0; p < P; ++p) {
            for (std::size_t c = 0; c < C; ++c) {
                const __m256i low = _mm512_castsi512_si256(negative[p][c]), high = _mm512_extracti64x4_epi64(negative[p][c], 1);
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
                fires |= static_cast<std::uint32_t>(_mm512_mask_cmpge_epi32_mask(some, sums, thresholds)) << (16 * half);
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
    for (; tile + kPatches <= task.count; tile += kPatches) tile_of_integers<kPatches, C>(task.tiles + tile, task, channel);
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

// The portable kernel's; wrapped, so that nothing of this file runs when the library loads.
void prune_integers(const IntegerPruneTask& task) { conv_int_scalar.prune(task); }

}  // namespace

constinit const BinaryKernel conv_b1_avx512 = {"conv_b1_avx512", kLanes, kMaxTile, dense_bits, prune_bits, pool_windows};
constinit const IntegerKernel conv_int_avx512 = {"conv_int_avx512", kIntegerLanes, kMaxTile, dense_integers, prune_integers};
constinit const OutputKernel output_avx512 = {"output_avx512", output_sums};

}  // namespace o3bnn
