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
            const std::size_t open = count_open();
            if (open == 0) break;
            if (open * Rows::kCost >= task_.count * channels_)
                evaluate_all(tiles);
            else
                evaluate_listed(tiles);
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

    std::size_t count_open() const {
        std::size_t count = 0;
        for (std::size_t window = 0; window < task_.count; ++window) {
            for (std::size_t i = 0; i < words_; ++i)
                count += static_cast<std::size_t>(__builtin_popcountll(open(window, i)));
        }
        return count;
    }

    void settle(std::size_t window, std::size_t i, Word fired) {
        settled_[window][i] |= open(window, i) & ~(fired ^ decisive(i));
    }

    void evaluate_all(const PoolTile* tiles) {
        Word fired[kMaxTile][kWords];
        BinaryTile dense[kMaxTile];
        for (std::size_t window = 0; window < task_.count; ++window)
            dense[window] = {tiles[window].patch, tiles[window].limits + first_, fired[window], tiles[window].runs};
        Rows::dense({dense, task_.count, task_.blocks + first_ * task_.words, task_.words, channels_});
        for (std::size_t window = 0; window < task_.count; ++window) {
            for (std::size_t i = 0; i < words_; ++i) settle(window, i, fired[window][i]);
        }
    }

    void evaluate_listed(const PoolTile* tiles) {
        for (std::size_t i = 0; i < words_; ++i) {
            const Word* rows = task_.rows + (first_ + i * kWordBits) * task_.row_words;
            for (std::size_t window = 0; window < task_.count; ++window) {
                const std::int32_t* limits = tiles[window].limits + first_ + i * kWordBits;
                if (i + 1 < words_) fetch(i + 1, window);
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
        const std::size_t left = channels_ - i * kWordBits, channels = left < kWordBits ? left : kWordBits;
        const std::size_t begin = channels * window / task_.count, end = channels * (window + 1) / task_.count;
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
