#include "kernels/profile.hpp"

#include <cstdlib>

#include "kernels/prune.hpp"

namespace o3bnn {
namespace {

/// Ones among bits begin <= bit < end of the row that word_at(index) yields.
template <class WordAt>
std::int32_t popcount_range(WordAt word_at, std::size_t begin, std::size_t end) {
    std::int32_t ones = 0;
    for (std::size_t index = begin / kWordBits; index < word_count(end); ++index)
        ones += popcount(word_at(index) & range_mask(index, begin, end));
    return ones;
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

/// The workspace of a sharp task: per edge word its existing edges and input ones (of the patch), then least, most and
/// actual matches (of the neuron at hand).
struct SharpWorkspace {
    std::size_t edge_words;
    std::int32_t *edges, *inputs, *least, *most, *matches;

    explicit SharpWorkspace(const PruneTask& task)
        : edge_words((task.words * kWordBits + task.word - 1) / task.word),
          edges(task.workspace),
          inputs(edges + edge_words),
          least(inputs + edge_words),
          most(least + edge_words),
          matches(most + edge_words) {}
};

/// Sharp bounds: a remaining word of b edges, x input ones and w weight ones has between |x + w - b| and b - |x - w|
/// matches (inclusion and exclusion of two subsets of b edges).
void prune_bits_sharp(const BinaryPruneTask& task) {
    const SharpWorkspace space(task);
    const std::size_t bits = task.words * kWordBits;
    const auto end_of = [&](std::size_t j) { return std::min(bits, (j + 1) * task.word); };
    for (std::size_t j = 0; j < space.edge_words; ++j) {
        const std::size_t begin = j * task.word;
        space.edges[j] = popcount_range([&](std::size_t i) { return task.exists[i]; }, begin, end_of(j));
        space.inputs[j] = popcount_range([&](std::size_t i) { return task.patch[i]; }, begin, end_of(j));
    }
    for_each_asked(task, [&](std::size_t channel) {
        const Word* row = task.rows + channel * task.words;
        const std::int32_t threshold = task.thresholds[channel];
        std::int32_t least = 0, most = 0;
        for (std::size_t j = 0; j < space.edge_words; ++j) {
            const std::size_t begin = j * task.word;
            const std::int32_t b = space.edges[j], x = space.inputs[j];
            const auto weight = [&](std::size_t i) { return row[i] & task.exists[i]; };
            const auto differ = [&](std::size_t i) { return (row[i] ^ task.patch[i]) & task.exists[i]; };
            const std::int32_t w = popcount_range(weight, begin, end_of(j));
            space.matches[j] = b - popcount_range(differ, begin, end_of(j));
            least += space.least[j] = std::abs(x + w - b);
            most += space.most[j] = b - std::abs(x - w);
        }
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
    return std::max(words + 1, word == 1 ? 0 : 5 * edge_words);
}

}  // namespace o3bnn
