// Pooling kernels against windows evaluated bit by bit.
#include "guarded.hpp"

namespace o3bnn::testing {
namespace {

struct PoolCase {
    std::size_t words, row_words, channels, positions, count;
    RunLists runs;
    std::vector<Word> rows, patches;        // [channels][words], [positions][count][words]
    std::vector<Word> decisive, exist;      // [word_count(channels)]
    std::vector<std::int32_t> limits;       // [positions][count][channels]
    std::vector<std::vector<Word>> wanted;  // [count]

    /// rarely: how seldom a neuron settles its window: about once in 1 + rarely positions. uneven: every other 64
    /// channels settle it at the first position.
    PoolCase(std::size_t words_, std::size_t channels_, std::size_t positions_, std::size_t count_, std::size_t rarely,
             bool uneven)
        : words(words_),
          row_words(round_up(words_, kRowStep)),
          channels(channels_),
          positions(positions_),
          count(count_),
          runs({{{0, words_}}, random_runs(words_, kRowStep)}),
          rows(random_words(words_ * channels_)),
          patches(random_words(words_ * positions_ * count_)),
          decisive(random_words(word_count(channels_))),
          exist(word_count(channels_), 0),
          limits(positions_ * count_ * channels_),
          wanted(count_, std::vector<Word>(word_count(channels_), 0)) {
        for (std::size_t c = 0; c < channels; ++c) exist[c / kWordBits] |= Word{1} << (c % kWordBits);
        for (std::size_t i = 0; i < exist.size(); ++i) decisive[i] &= exist[i];
        for (std::size_t window = 0; window < count; ++window) {
            for (std::size_t c = 0; c < channels; ++c) decide(window, c, uneven && c / kWordBits % 2 ? 0 : rarely);
        }
    }

    void decide(std::size_t window, std::size_t c, std::size_t rarely) {
        const bool bit = decisive[c / kWordBits] >> (c % kWordBits) & 1;
        bool settled = false;
        for (std::size_t position = 0; position < positions; ++position) {
            const std::size_t at = position * count + window;
            const std::int32_t m =
                naive_mismatches(patches.data() + at * words, rows.data() + c * words, runs.of(at));
            const bool fires = (random_below(1 + rarely) == 0) == bit;
            limits[at * channels + c] = fires ? m : m - 1;  // the limits that are nearest to the mismatches
            settled = settled || fires == bit;
        }
        wanted[window][c / kWordBits] |= Word{settled == bit} << (c % kWordBits);
    }

    /// The first windows, as many as the kernel takes.
    void check(const BinaryKernel& kernel) const {
        const std::size_t taken = std::min(count, kernel.tile);
        std::vector<PoolTile> tiles;
        for (std::size_t i = 0; i < positions * taken; ++i) {
            const std::size_t at = i / taken * count + i % taken;
            Word* patch = memory().patches[at].place<Word>(row_words);
            std::fill(std::copy_n(patches.data() + at * words, words, patch), patch + row_words, Word{0});
            auto* bounds = memory().limits[at].place<std::int32_t>(round_up(channels, kWordBits));
            std::fill(std::copy_n(limits.data() + at * channels, channels, bounds),
                      bounds + round_up(channels, kWordBits), -1);
            auto* narrow = memory().narrow[at].place<std::int16_t>(round_up(channels, kWordBits));
            std::copy_n(bounds, round_up(channels, kWordBits), narrow);
            tiles.push_back({patch, bounds, narrow, &runs.of(at)});
        }
        Word* results[kMaxTile];
        for (std::size_t window = 0; window < taken; ++window)
            results[window] = memory().results[window].prepare(word_count(channels));
        std::snprintf(current, sizeof current, "%s, pooling: %zu channels, %zu words, %zu windows of %zu", kernel.name,
                      channels, words, taken, positions);
        const Word* blocks = place_blocks(kernel, rows, channels, words);
        Word* padded = memory().rows.place<Word>(channels * row_words);
        std::fill_n(padded, channels * row_words, Word{0});
        for (std::size_t c = 0; c < channels; ++c) std::copy_n(rows.data() + c * words, words, padded + c * row_words);
        kernel.pool({tiles.data(), positions, taken, results, blocks, words, padded, row_words, decisive.data(),
                     exist.data(), channels});
        for (std::size_t window = 0; window < taken; ++window)
            memory().results[window].expect(wanted[window], "window " + std::to_string(window));
    }
};

}  // namespace

void test_pools(const Isas& isas) {
    std::vector<std::size_t> lengths = {kPoolWords - 1, kPoolWords};
    for (std::size_t words = 1; words <= kEveryWords; words += words < 20 ? 1 : 7) lengths.push_back(words);
    for (const std::size_t words : lengths) {
        for (const std::size_t channels : kChannels) {
            if (!selected()) continue;
            const std::size_t positions = 1 + random_below(words < 20 ? kMaxPositions : 4);
            const PoolCase task(words, channels, positions, 1 + random_below(kMaxTile), random_below(6),
                                random_below(2) == 0);
            for (const Isa* isa : isas) task.check(*isa->binary);
        }
    }
    for (const std::size_t channels : {255, 256, 257, 300, 513}) {
        for (std::size_t rarely = 0; rarely < 6; ++rarely) {
            if (!selected()) continue;
            for (const bool uneven : {false, true}) {
                const PoolCase task(9, channels, 4, kMaxTile, rarely, uneven);
                for (const Isa* isa : isas) task.check(*isa->binary);
            }
        }
    }
}

}  // namespace o3bnn::testing
