#include "kernels/profile.hpp"

#include <cstdlib>

#include "kernels/prune.hpp"

namespace o3bnn {
namespace {

/// Ones in each field of `Width` bits, a power of two up to 64, kept in that field.
template <std::size_t Width>
Word count_fields(Word x) {
    if constexpr (Width >= 2) x = count_pairs(x);
    if constexpr (Width >= 4) x = add_pairs(x);
    if constexpr (Width >= 8) x = (x + (x >> 4)) & kOctets;
    if constexpr (Width >= 16) x = (x + (x >> 8)) & 0x00ff00ff00ff00ffu;
    if constexpr (Width >= 32) x = (x + (x >> 16)) & 0x0000ffff0000ffffu;
    if constexpr (Width >= 64) x = (x + (x >> 32)) & 0xffffffffu;
    return x;
}

template <std::size_t Width, class WordAt>
void count_narrow(WordAt word_at, std::size_t words, std::int32_t* ones) {
    constexpr Word kField = Width < 64 ? (Word{1} << (Width % 64)) - 1 : ~Word{0};
    for (std::size_t index = 0; index < words; ++index) {
        const Word fields = count_fields<Width>(word_at(index));
        for (std::size_t bit = 0; bit < kWordBits; bit += Width)
            *ones++ = static_cast<std::int32_t>(fields >> bit & kField);
    }
}

template <class WordAt>
void count_any(WordAt word_at, std::size_t words, std::size_t width, std::int32_t* ones) {
    const std::size_t bits = words * kWordBits;
    for (std::size_t begin = 0; begin < bits; begin += width, ++ones) {
        const std::size_t end = std::min(bits, begin + width);
        *ones = 0;
        for (std::size_t index = begin / kWordBits; index < word_count(end); ++index)
            *ones += popcount(word_at(index) & range_mask(index, begin, end));
    }
}

/// Ones in each edge word of a row, of which word_at(index) yields the 64-bit words.
template <class WordAt>
void count_edge_words(WordAt word_at, const PruneTask& task, std::int32_t* ones) {
    switch (task.word) {
        case 2: return count_narrow<2>(word_at, task.words, ones);
        case 4: return count_narrow<4>(word_at, task.words, ones);
        case 8: return count_narrow<8>(word_at, task.words, ones);
        case 16: return count_narrow<16>(word_at, task.words, ones);
        case 32: return count_narrow<32>(word_at, task.words, ones);
        case 64: return count_narrow<64>(word_at, task.words, ones);
        default: return count_any(word_at, task.words, task.word, ones);
    }
}

/// Sharp bounds, words of one edge: the popcounts tell every match beforehand, so no edge is ever spent.
void prune_bits_foretold(const BinaryPruneTask& task) {
    for_each_asked(task, [&task](std::size_t channel) {
        const Word* row = task.rows + channel * task.words;
        std::int32_t matches = task.fan_in;
        for (std::size_t word = 0; word < task.words; ++word)
            matches -= popcount((task.patch[word] ^ row[word]) & task.exists[word]);
        const bool fires = matches >= task.thresholds[channel];
        set_fired(task, channel, fires);
        task.counts->add(fires, static_cast<std::uint64_t>(task.fan_in), 0);
    });
}

/// The workspace of a sharp task, an entry an edge word: existing edges and input ones (of the patch), then weight
/// ones, matches, and least and most matches (of the neuron at hand).
struct SharpWorkspace {
    static constexpr std::size_t kColumns = 6;
    std::size_t size;
    std::int32_t *edges, *inputs, *weights, *matches, *least, *most;

    explicit SharpWorkspace(const PruneTask& task)
        : size((task.words * kWordBits + task.word - 1) / task.word),
          edges(task.workspace),
          inputs(edges + size),
          weights(inputs + size),
          matches(weights + size),
          least(matches + size),
          most(least + size) {}
};

/// Sharp bounds: a remaining word of b edges, x input ones and w weight ones has between |x + w - b| and b - |x - w|
/// matches (inclusion and exclusion of two subsets of b edges).
void prune_bits_sharp(const BinaryPruneTask& task) {
    const SharpWorkspace space(task);
    count_edge_words([&](std::size_t i) { return task.exists[i]; }, task, space.edges);
    count_edge_words([&](std::size_t i) { return task.patch[i]; }, task, space.inputs);
    for_each_asked(task, [&](std::size_t channel) {
        const Word* row = task.rows + channel * task.words;
        count_edge_words([&](std::size_t i) { return row[i] & task.exists[i]; }, task, space.weights);
        count_edge_words([&](std::size_t i) { return ~(row[i] ^ task.patch[i]) & task.exists[i]; }, task,
                         space.matches);
        std::int32_t least = 0, most = 0;
        for (std::size_t j = 0; j < space.size; ++j) {
            const std::int32_t b = space.edges[j], x = space.inputs[j], w = space.weights[j];
            least += space.least[j] = std::abs(x + w - b);
            most += space.most[j] = b - std::abs(x - w);
        }
        const std::int32_t threshold = task.thresholds[channel];
        std::int32_t matches = 0, spent = 0;
        for (std::size_t j = 0; matches + least < threshold && matches + most >= threshold; ++j) {
            matches += space.matches[j];
            spent += space.edges[j];
            least -= space.least[j];
            most -= space.most[j];
        }
        const bool fires = matches + least >= threshold;
        set_fired(task, channel, fires);
        task.counts->add(fires, static_cast<std::uint64_t>(task.fan_in), static_cast<std::uint64_t>(spent));
    });
}

template <class Counting>
void prune_integers_sharp(const IntegerPruneTask& task) {
    task.workspace[task.words] = 0;
    for (std::size_t word = task.words; word-- > 0;) {
        std::int32_t sum = task.workspace[word + 1];
        for (std::size_t i = word * kWordBits; i < std::min((word + 1) * kWordBits, task.stride); ++i)
            sum += std::abs(std::int32_t{task.patch[i]});
        task.workspace[word] = sum;
    }
    prune_integers<SharpBounds, Counting>(task);
}

}  // namespace

BinaryPrune counting_binary(std::size_t word, Bounds bounds) {
    if (bounds == Bounds::sharp) return word == 1 ? prune_bits_foretold : prune_bits_sharp;
    return word == kWordBits ? prune_bits<CountWords> : prune_bits<CountLocated>;
}

IntegerPrune counting_integer(std::size_t word, Bounds bounds) {
    if (bounds == Bounds::sharp)
        return word == kWordBits ? prune_integers_sharp<CountWords> : prune_integers_sharp<CountLocated>;
    return word == kWordBits ? prune_integers<SimpleBounds, CountWords> : prune_integers<SimpleBounds, CountLocated>;
}

std::size_t prune_workspace(std::size_t words, std::size_t word, Bounds bounds) {
    if (bounds == Bounds::simple) return 0;
    const std::size_t edge_words = (words * kWordBits + word - 1) / word;
    return std::max(words + 1, word == 1 ? 0 : SharpWorkspace::kColumns * edge_words);
}

}  // namespace o3bnn
