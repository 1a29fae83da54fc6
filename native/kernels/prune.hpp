// Neuron by neuron, edge word by edge word: the pruning loops, with a policy that says how edges are counted.
//
// With simple bounds both conditions are monotone in the number of edges seen, and they exclude each other. So the
// words of 64 edges are walked whatever the counted width B is; for another B the deciding edge is located inside its
// word of 64, and the count is rounded up to the end of that edge's word of B. One loop serves the kernels (no
// counting), their own profile (B = 64) and every other B.
//
// Baseline flags only: see kernel.hpp.
#pragma once

#include <algorithm>
#include <bit>

#include "kernels/popcount.hpp"

namespace o3bnn {

/// Calls visit(channel) for every asked channel of the task's range, in increasing order.
template <class Visit>
void for_each_asked(const PruneTask& task, Visit visit) {
    for (std::size_t index = task.begin / kWordBits; index < word_count(task.end); ++index) {
        for (Word open = task.asked[index] & range_mask(index, task.begin, task.end); open; open &= open - 1)
            visit(index * kWordBits + static_cast<std::size_t>(std::countr_zero(open)));
    }
}

inline void set_fired(const PruneTask& task, std::size_t channel, bool fires) {
    task.fired[channel / kWordBits] |= Word{fires} << (channel % kWordBits);
}

/// Existing edges before `edge` of the full kernel's order.
inline std::int32_t edges_before(const PruneTask& task, std::size_t edge) {
    const std::size_t word = edge / kWordBits;
    if (word >= task.words) return task.fan_in;
    const std::int32_t before = word > 0 ? task.seen[word - 1] : 0;
    return before + popcount(task.exists[word] & below(edge % kWordBits));
}

/// Counting policy: nothing is counted.
struct Uncounted {
    static constexpr bool counting = false;
};

/// Counting policy: edge words of 64, the width that the loops walk.
struct CountWords {
    static constexpr bool counting = true;
    static constexpr bool locating = false;
};

/// Counting policy: edge words of any width; the deciding edge is located.
struct CountLocated {
    static constexpr bool counting = true;
    static constexpr bool locating = true;
};

/// Edges spent where `edge` decides: up to the end of its word of task.word edges.
inline std::int32_t spent_at(const PruneTask& task, std::size_t edge) {
    return edges_before(task, (edge / task.word + 1) * task.word);
}

template <class Counting>
void prune_bits(const BinaryPruneTask& task) {
    for_each_asked(task, [&task](std::size_t channel) {
        const Word* row = task.rows + channel * task.words;
        const std::int32_t threshold = task.thresholds[channel];
        const std::int32_t tolerated = task.fan_in - threshold;  // mismatches with which m >= t can still be reached
        std::int32_t mismatches = 0;
        for (std::size_t word = task.first_word;; ++word) {
            const Word differ = (task.patch[word] ^ row[word]) & task.exists[word];
            const std::int32_t after = mismatches + popcount(differ);
            const bool silent = after > tolerated;
            const bool fires = task.seen[word] - after >= threshold;
            if (silent || fires) {
                set_fired(task, channel, fires);
                if constexpr (Counting::counting) {
                    std::int32_t spent = task.seen[word];
                    if constexpr (Counting::locating) {
                        const std::int32_t seen = word > 0 ? task.seen[word - 1] : 0;
                        const std::size_t bit =
                            fires ? select(task.exists[word] & ~differ, threshold - (seen - mismatches))
                                  : select(differ, tolerated + 1 - mismatches);
                        spent = spent_at(task, word * kWordBits + bit);
                    }
                    task.counts->add(fires, static_cast<std::uint64_t>(task.fan_in), static_cast<std::uint64_t>(spent));
                }
                return;
            }
            mismatches = after;
        }
    });
}

/// Sum of sign times input over `size` elements, a multiple of kIntegerStep.
inline std::int32_t signed_sum(const std::int16_t* patch, const std::int8_t* signs, std::size_t size) {
    std::int32_t sum = 0;
    for (std::size_t start = 0; start < size; start += kIntegerStep) {
        for (std::size_t i = start; i < start + kIntegerStep; ++i)
            sum += std::int32_t{patch[i]} * std::int32_t{static_cast<std::int16_t>(signs[i])};
    }
    return sum;
}

/// Bounds of an integer neuron: no remaining edge changes its sum by more than the encoding's magnitude.
struct SimpleBounds {
    static constexpr bool before_first = false;
    static std::int32_t remaining(const IntegerPruneTask& task, std::size_t word) {
        return (task.fan_in - task.seen[word]) * task.magnitude;
    }
    static std::int32_t step(const IntegerPruneTask& task, std::size_t) { return task.magnitude; }
};

/// Bounds of an integer neuron: a remaining edge changes its sum by |x|. task.workspace[w]: sum of |x| from word w on.
struct SharpBounds {
    static constexpr bool before_first = true;
    static std::int32_t remaining(const IntegerPruneTask& task, std::size_t word) { return task.workspace[word + 1]; }
    static std::int32_t step(const IntegerPruneTask& task, std::size_t edge) {
        const std::int32_t x = task.patch[edge];
        return x < 0 ? -x : x;
    }
};

/// The edge that decides an integer neuron which is decided after `word`, where its sum and remaining bound are given:
/// the earliest one whose successors all leave it decided (searched from the back, since few edges of a word are
/// saved).
template <class Bound>
std::size_t locate(const IntegerPruneTask& task, const std::int8_t* row, std::int32_t threshold, std::size_t word,
                   std::int32_t sum, std::int32_t remaining) {
    Word open = task.exists[word];
    for (;;) {
        const std::size_t bit = kWordBits - 1 - static_cast<std::size_t>(std::countl_zero(open));
        const std::size_t edge = word * kWordBits + bit;
        sum -= task.patch[edge] * row[edge];
        remaining += Bound::step(task, edge);
        open &= below(bit);
        if (!open || (sum - remaining < threshold && sum + remaining >= threshold)) return edge;
    }
}

template <class Bound, class Counting>
void prune_integers(const IntegerPruneTask& task) {
    for_each_asked(task, [&task](std::size_t channel) {
        const std::int8_t* row = task.signs + channel * task.stride;
        const std::int32_t threshold = task.thresholds[channel];
        [[maybe_unused]] const auto decide = [&](bool fires, std::int32_t spent) {
            if constexpr (Counting::counting)
                task.counts->add(fires, static_cast<std::uint64_t>(task.fan_in), static_cast<std::uint64_t>(spent));
            set_fired(task, channel, fires);
        };
        if constexpr (Bound::before_first) {
            const std::int32_t all = task.workspace[0];
            if (-all >= threshold || all < threshold) return decide(-all >= threshold, 0);
        }
        std::int32_t sum = 0;
        for (std::size_t word = task.first_word;; ++word) {
            const std::size_t start = word * kWordBits;
            const std::int32_t after =
                sum + signed_sum(task.patch + start, row + start, std::min(kWordBits, task.stride - start));
            const std::int32_t remaining = Bound::remaining(task, word);
            const bool fires = after - remaining >= threshold;
            if (fires || after + remaining < threshold) {
                std::int32_t spent = task.seen[word];
                if constexpr (Counting::counting) {
                    if constexpr (Counting::locating)
                        spent = spent_at(task, locate<Bound>(task, row, threshold, word, after, remaining));
                }
                return decide(fires, spent);
            }
            sum = after;
        }
    });
}

}  // namespace o3bnn
