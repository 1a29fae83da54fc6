// Pooling windows for instruction sets without lists of vectors: a listed neuron is evaluated by itself, from its row.
//
// Included by files with flags of their own: everything is in the anonymous namespace, see kernel.hpp.
#pragma once

#include "kernels/kernel.hpp"

namespace o3bnn {
namespace {

/// Two listed neurons, which read the same patch; the second may be the first.
struct RowPair {
    const Word *first, *second;
};
struct PairMismatches {
    std::int32_t first, second;
};

/// An instruction set's part, a class with static members: dense(task) is its dense kernel; mismatches(patch, rows,
/// runs) counts those of two neurons, where runs may be rounded up to kRowStep words; kChannels are evaluated together;
/// a listed neuron takes kCost times as long as one of the dense kernel.
template <class Rows>
class PoolShare {
  public:
    PoolShare(const BinaryPoolTask& task, std::size_t first)
        : task_(task),
          first_(first),
          channels_(task.channels - first < Rows::kChannels ? task.channels - first : Rows::kChannels),
          words_((channels_ + kWordBits - 1) / kWordBits) {}

    void run() {
        for (std::size_t window = 0; window < task_.count; ++window) {
            for (std::size_t i = 0; i < words_; ++i) settled_[window][i] = 0;
        }
        for (std::size_t position = 0; position < task_.positions; ++position) {
            const PoolTile* tiles = task_.tiles + position * task_.count;
            for (std::size_t begin = 0, end = 0; begin < words_; begin = end) {
                const bool dense = many_open(begin);
                for (end = begin + 1; end < words_ && many_open(end) == dense;) ++end;
                if (dense)
                    evaluate_all(tiles, begin, end);
                else
                    evaluate_listed(tiles, begin, end);
            }
        }
        for (std::size_t window = 0; window < task_.count; ++window) {
            for (std::size_t i = 0; i < words_; ++i)
                task_.results[window][first_ / kWordBits + i] = ~(settled_[window][i] ^ decisive(i)) & exist(i);
        }
    }

  private:
    static constexpr std::size_t kWords = Rows::kChannels / kWordBits;

    Word decisive(std::size_t i) const { return task_.decisive[first_ / kWordBits + i]; }
    Word exist(std::size_t i) const { return task_.exist[first_ / kWordBits + i]; }
    Word open(std::size_t window, std::size_t i) const { return exist(i) & ~settled_[window][i]; }

    std::size_t channels(std::size_t begin, std::size_t end) const {
        const std::size_t stop = end * kWordBits < channels_ ? end * kWordBits : channels_;
        return stop - begin * kWordBits;
    }

    /// Whether the dense kernel takes less time than rows for the 64 channels of word i: sorted channels are settled
    /// together or not at all.
    bool many_open(std::size_t i) const {
        std::size_t count = 0;
        for (std::size_t window = 0; window < task_.count; ++window)
            count += static_cast<std::size_t>(__builtin_popcountll(open(window, i)));
        return count * Rows::kCost >= task_.count * channels(i, i + 1);
    }

    void settle(std::size_t window, std::size_t i, Word fired) {
        settled_[window][i] |= open(window, i) & ~(fired ^ decisive(i));
    }

    /// The channels of words begin .. end - 1, settled or not.
    void evaluate_all(const PoolTile* tiles, std::size_t begin, std::size_t end) {
        const std::size_t first = first_ + begin * kWordBits;
        Word fired[kMaxTile][kWords];
        BinaryTile dense[kMaxTile];
        for (std::size_t window = 0; window < task_.count; ++window)
            dense[window] = {tiles[window].patch, tiles[window].limits + first, fired[window], tiles[window].runs};
        Rows::dense({dense, task_.count, task_.blocks + first * task_.words, task_.words, channels(begin, end)});
        for (std::size_t window = 0; window < task_.count; ++window) {
            for (std::size_t i = begin; i < end; ++i) settle(window, i, fired[window][i - begin]);
        }
    }

    void evaluate_listed(const PoolTile* tiles, std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const Word* rows = task_.rows + (first_ + i * kWordBits) * task_.row_words;
            for (std::size_t window = 0; window < task_.count; ++window) {
                const std::int32_t* limits = tiles[window].limits + first_ + i * kWordBits;
                if (i + 1 < end) fetch(i + 1, window);
                Word fired = 0;
                for (Word left = open(window, i); left;) {
                    const auto first = static_cast<std::size_t>(__builtin_ctzll(left));
                    left &= left - 1;
                    const auto second = left ? static_cast<std::size_t>(__builtin_ctzll(left)) : first;
                    left &= left - 1;  // none stays none
                    const RowPair pair = {rows + first * task_.row_words, rows + second * task_.row_words};
                    const PairMismatches mismatches = Rows::mismatches(tiles[window].patch, pair, *tiles[window].runs);
                    fired |= Word{mismatches.first <= limits[first]} << first;
                    fired |= Word{mismatches.second <= limits[second]} << second;
                }
                settle(window, i, fired);
            }
        }
    }

    /// Listed rows are far apart, and no processor foresees the next one: fetches one window's share of the rows that
    /// word i lists from.
    void fetch(std::size_t i, std::size_t window) const {
        const std::size_t share = channels(i, i + 1);
        const std::size_t begin = share * window / task_.count, end = share * (window + 1) / task_.count;
        const Word* rows = task_.rows + (first_ + i * kWordBits) * task_.row_words;
        for (std::size_t word = begin * task_.row_words; word < end * task_.row_words; word += 8)
            __builtin_prefetch(rows + word);
    }

    const BinaryPoolTask& task_;
    std::size_t first_, channels_, words_;
    Word settled_[kMaxTile][kWords];
};

template <class Rows>
void pool_by_rows(const BinaryPoolTask& task) {
    for (std::size_t first = 0; first < task.channels; first += Rows::kChannels) PoolShare<Rows>(task, first).run();
}

}  // namespace
}  // namespace o3bnn
