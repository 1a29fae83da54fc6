// AVX-512: pooling windows. Channels that a window's first positions settle are left alone afterwards.
//
// A block of 64 channels at a time, so that its weights stay in the cache. The first position of every window is
// evaluated by register tiles. Of a later position, each window has a list of open channels; the lists of all windows
// are strung together, in groups of four neurons that share a patch, and evaluated two groups at a time, one row of
// weights a neuron, whatever windows they belong to: so the loop has no branch that depends on how many channels are
// open.
#include <immintrin.h>

#include "kernels/avx512.hpp"

namespace o3bnn::avx512 {
namespace {

constexpr std::size_t kChannels = kWordBits;  // of a block: one word of the result
constexpr std::size_t kGroup = 4;
constexpr int kField = 13;  // bits of a sum: up to kPoolWords words

/// sum += x in 64-bit lanes. In assembly, since GCC 12 copies every accumulator around the intrinsic.
void add_lanes(__m512i& sum, __m512i x) { asm("vpaddq %1, %0, %0" : "+v"(sum) : "v"(x)); }

/// Sums of the lanes of eight vectors: lane i of the result is the sum over vector i. Four sums share a lane on the
/// way, in fields that hold any number of mismatches of a row.
__m512i sum_lanes(const __m512i (&v)[8]) {
    __m512i fields[2];  // of the even and the odd vectors
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
        const __m512i low = _mm512_madd52lo_epu64(v[odd], v[odd + 2], _mm512_set1_epi64(1 << kField));
        const __m512i high = _mm512_madd52lo_epu64(v[odd + 4], v[odd + 6], _mm512_set1_epi64(1 << kField));
        fields[odd] = _mm512_madd52lo_epu64(low, high, _mm512_set1_epi64(1 << (2 * kField)));
    }
    __m512i sums =
        _mm512_add_epi64(_mm512_unpacklo_epi64(fields[0], fields[1]), _mm512_unpackhi_epi64(fields[0], fields[1]));
    sums = _mm512_add_epi64(sums, _mm512_shuffle_i64x2(sums, sums, 0x4e));
    sums = _mm512_add_epi64(sums, _mm512_shuffle_i64x2(sums, sums, 0xb1));
    const __m512i places = _mm512_setr_epi64(0, 0, kField, kField, 2 * kField, 2 * kField, 3 * kField, 3 * kField);
    return _mm512_and_si512(_mm512_srlv_epi64(sums, places), _mm512_set1_epi64((1 << kField) - 1));
}

/// What is the same for all neurons of a list.
struct Rows {
    const Word* first;             ///< row of the block's first channel
    std::size_t words;             ///< of a row, with its padding
    std::size_t vectors = 0;       ///< evaluated vectors, one at least
    std::size_t at[kPoolWords / kLanes + 1];  ///< their first words
    bool half;  ///< whether only half of the last is needed: it costs half as much where the processor splits vectors

    Rows(const BinaryPoolTask& task, std::size_t channel, const WordRuns& runs)
        : first(task.rows + channel * task.row_words),
          words(task.row_words) {
        for (std::size_t run = 0; run < runs.count; ++run) {
            for (std::size_t word = runs.first[run].begin; word < runs.first[run].end; word += kLanes)
                at[vectors++] = word;
        }
        half = vectors > 1 && task.words - at[vectors - 1] <= kLanes / 2;
    }
};

/// Mismatches of `count` neurons, in groups that share a patch; two groups at a time.
template <bool Half>
[[gnu::noinline]] void listed_mismatches(const Rows& rows, const std::uint8_t* channels, const Word* const* patches,
                                         std::size_t count, std::int16_t* out) {
    const std::size_t whole = rows.vectors - Half;
    for (std::size_t at = 0; at < count; at += 8, channels += 8, patches += 2, out += 8) {
        const Word* row[8];
#pragma GCC unroll 8
        for (std::size_t i = 0; i < 8; ++i) row[i] = rows.first + channels[i] * rows.words;
        const Word *first = patches[0], *second = patches[1];
        __m512i differ[8];
        std::size_t word = rows.at[0];
        const __m512i x0 = _mm512_loadu_si512(first + word), y0 = _mm512_loadu_si512(second + word);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < 8; ++i)
            differ[i] = _mm512_popcnt_epi64(_mm512_xor_si512(i < kGroup ? x0 : y0, _mm512_loadu_si512(row[i] + word)));
        for (std::size_t vector = 1; vector < whole; ++vector) {
            word = rows.at[vector];
            const __m512i x = _mm512_loadu_si512(first + word), y = _mm512_loadu_si512(second + word);
#pragma GCC unroll 8
            for (std::size_t i = 0; i < 8; ++i) {
                const __m512i weights = _mm512_loadu_si512(row[i] + word);
                add_lanes(differ[i], _mm512_popcnt_epi64(_mm512_xor_si512(i < kGroup ? x : y, weights)));
            }
        }
        if constexpr (Half) {
            word = rows.at[whole];
            const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + word));
            const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(second + word));
#pragma GCC unroll 8
            for (std::size_t i = 0; i < 8; ++i) {
                const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row[i] + word));
                const __m256i mismatches = _mm256_popcnt_epi64(_mm256_xor_si256(i < kGroup ? x : y, weights));
                add_lanes(differ[i], _mm512_zextsi256_si512(mismatches));
            }
        }
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi64_epi16(sum_lanes(differ)));
    }
}

/// The lists of one position.
class Lists {
  public:
    void clear() { size_ = 0; }

    /// Appends a window's open channels, filled up with channel 0 to whole groups. Returns where the list begins.
    std::size_t append(const Word* patch, Word open) {
        alignas(64) static constexpr auto counting = [] {
            struct {
                std::uint8_t value[kChannels];
            } numbers{};
            for (std::size_t i = 0; i < kChannels; ++i) numbers.value[i] = static_cast<std::uint8_t>(i);
            return numbers;
        }();
        const std::size_t begin = size_;
        _mm512_storeu_si512(channels_ + begin, _mm512_maskz_compress_epi8(open, _mm512_load_si512(counting.value)));
        const __m512i pointer = _mm512_set1_epi64(reinterpret_cast<long long>(patch));
        _mm512_storeu_si512(patches_ + begin / kGroup, pointer);
        _mm512_storeu_si512(patches_ + begin / kGroup + 8, pointer);
        size_ += round_up(static_cast<std::size_t>(_mm_popcnt_u64(open)), kGroup);
        return begin;
    }

    void evaluate(const Rows& rows) {
        const auto run = rows.half ? listed_mismatches<true> : listed_mismatches<false>;
        run(rows, channels_, patches_, size_, mismatches_);
    }

    /// Bits of the open channels of the list that begins there.
    Word fired(std::size_t begin, Word open, const std::int16_t* limits) const {
        const auto low = static_cast<__mmask32>(open), high = static_cast<__mmask32>(open >> 32);
        const std::size_t middle = begin + static_cast<std::size_t>(_mm_popcnt_u32(low));
        return Word{fired_half(begin, low, limits)} | Word{fired_half(middle, high, limits + 32)} << 32;
    }

  private:
    __mmask32 fired_half(std::size_t begin, __mmask32 open, const std::int16_t* limits) const {
        const __m512i mismatches = _mm512_maskz_expand_epi16(open, _mm512_loadu_si512(mismatches_ + begin));
        return _mm512_mask_cmple_epi16_mask(open, mismatches, _mm512_loadu_si512(limits));
    }

    static constexpr std::size_t kRoom = kMaxTile * kChannels + kChannels;
    std::size_t size_ = 0;
    std::uint8_t channels_[kRoom];
    const Word* patches_[kRoom / kGroup];
    std::int16_t mismatches_[kRoom];
};

/// Windows of one block of channels.
class PoolBlock {
  public:
    PoolBlock(const BinaryPoolTask& task, Lists& lists, std::size_t index)
        : task_(task),
          lists_(lists),
          first_(index * kChannels),
          channels_(task.channels - first_ < kChannels ? task.channels - first_ : kChannels),
          decisive_(task.decisive[index]),
          exist_(task.exist[index]) {}

    void run(int limit) {
        for (std::size_t window = 0; window < task_.count; ++window) settled_[window] = 0;
        for (std::size_t position = 0; position < task_.positions; ++position) {
            const PoolTile* tiles = task_.tiles + position * task_.count;
            std::uint32_t left = (1u << task_.count) - 1;
            while (left) left &= ~evaluate(tiles, left, position == 0 ? -1 : limit);
        }
        for (std::size_t window = 0; window < task_.count; ++window)
            task_.results[window][first_ / kWordBits] = ~(settled_[window] ^ decisive_) & exist_;
    }

  private:
    /// Evaluates one position of those windows of `among` that have the same runs as the first of them; returns them.
    /// Up to `limit` open channels are listed.
    std::uint32_t evaluate(const PoolTile* tiles, std::uint32_t among, int limit) {
        const WordRuns* runs = tiles[__builtin_ctz(among)].runs;
        std::uint32_t done = 0, listed = 0;
        lists_.clear();
        for (std::uint32_t left = among; left; left &= left - 1) {
            const auto window = static_cast<std::size_t>(__builtin_ctz(left));
            if (tiles[window].runs != runs) continue;
            done |= 1u << window;
            const Word open = exist_ & ~settled_[window];
            if (__builtin_popcountll(open) > limit) {
                queue(tiles, window);
            } else if (open) {
                listed |= 1u << window;
                open_[window] = open;
                begin_[window] = lists_.append(tiles[window].patch, open);
            }
        }
        flush();
        if (listed) lists_.evaluate(Rows(task_, first_, *runs));
        for (; listed; listed &= listed - 1) {
            const auto window = static_cast<std::size_t>(__builtin_ctz(listed));
            settle(window, open_[window],
                   lists_.fired(begin_[window], open_[window], tiles[window].narrow + first_));
        }
        return done;
    }

    void settle(std::size_t window, Word open, Word fired) { settled_[window] |= open & ~(fired ^ decisive_); }

    void queue(const PoolTile* tiles, std::size_t window) {
        queued_[pending_] = window;
        dense_[pending_] = {tiles[window].patch, tiles[window].limits + first_, fired_ + pending_, tiles[window].runs};
        fired_[pending_++] = 0;
    }

    void flush() {
        if (pending_ == 0) return;
        add_bits({dense_, pending_, task_.blocks + first_ * task_.words, task_.words, channels_});
        for (std::size_t i = 0; i < pending_; ++i) settle(queued_[i], exist_ & ~settled_[queued_[i]], fired_[i]);
        pending_ = 0;
    }

    const BinaryPoolTask& task_;
    Lists& lists_;
    std::size_t first_, channels_;
    Word decisive_, exist_;
    Word settled_[kMaxTile], open_[kMaxTile], fired_[kMaxTile];
    std::size_t begin_[kMaxTile], queued_[kMaxTile];
    BinaryTile dense_[kMaxTile];
    std::size_t pending_ = 0;
};

/// Above this many open channels of a block a register tile over all of them is faster than a list (instruction counts:
/// 12 cycles a word for 64 channels, against 12 a vector and about 28 of overhead for eight listed ones).
int list_limit(std::size_t words) {
    const std::size_t rest = words % kLanes;
    const std::size_t halves = words / kLanes * 2 + (rest > kLanes / 2 ? 2 : rest > 0 ? 1 : 0);
    return static_cast<int>(96 * words / (6 * halves + 28));
}

}  // namespace

void pool_windows(const BinaryPoolTask& task) {
    const int limit = list_limit(task.words);
    Lists lists;
    for (std::size_t index = 0; index < word_count(task.channels); ++index) PoolBlock(task, lists, index).run(limit);
}

}  // namespace o3bnn::avx512
