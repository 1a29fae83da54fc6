// Word-by-word pruning with the processor's popcount instruction, for the files of instruction sets that have it.
//
// Everything here is private to the including file (see kernel.hpp on sharing inline code). Decisions are looked for
// after every kStride words only, for fewer branches; so a neuron may be given up to kStride - 1 words more than at B
// = 64.
#pragma once

#include "kernels/kernel.hpp"

namespace o3bnn {
namespace {

constexpr std::size_t kStride = 4;

/// Whether the neuron fires; not constant, so decided at its last existing edge at the latest.
bool decide_neuron(const BinaryPruneTask& task, const Word* row, std::int32_t threshold) {
    const std::int32_t tolerated = task.fan_in - threshold;
    std::int32_t mismatches = 0;
    for (std::size_t word = task.first_word;;) {
        const std::size_t stop = word + kStride < task.words ? word + kStride : task.words;
        for (; word < stop; ++word)
            mismatches += __builtin_popcountll((task.patch[word] ^ row[word]) & task.exists[word]);
        if (mismatches > tolerated) return false;
        if (task.seen[word - 1] - mismatches >= threshold) return true;
    }
}

void prune_bits(const BinaryPruneTask& task) {
    for (std::size_t index = task.begin / kWordBits; index < word_count(task.end); ++index) {
        Word open = task.asked[index];
        if (index == task.begin / kWordBits) open &= ~Word{0} << (task.begin % kWordBits);
        if (index == task.end / kWordBits) open &= ~(~Word{0} << (task.end % kWordBits));
        for (; open; open &= open - 1) {
            const std::size_t channel = index * kWordBits + static_cast<std::size_t>(__builtin_ctzll(open));
            const bool fires = decide_neuron(task, task.rows + channel * task.words, task.thresholds[channel]);
            task.fired[index] |= Word{fires} << (channel % kWordBits);
        }
    }
}

}  // namespace
}  // namespace o3bnn
