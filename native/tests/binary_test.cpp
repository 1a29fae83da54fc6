// Dense kernels of stages of bits, with and without checks.
#include <bit>

#include "guarded.hpp"

namespace o3bnn::testing {
namespace {

/// A binary stage's operands, and the mismatches of every patch and channel over the patch's runs of words.
struct BinaryCase {
    std::size_t words, channels;
    RunLists runs;
    std::vector<Word> rows, patches;
    std::vector<std::int32_t> mismatches, limits;  // [kMaxTile][channels]

    BinaryCase(std::size_t words_, std::size_t channels_, const std::vector<std::vector<WordRange>>& lists)
        : words(words_),
          channels(channels_),
          runs(lists),
          rows(random_words(words_ * channels_)),
          patches(random_words(words_ * kMaxTile)) {
        for (std::size_t word = 0; word < words; ++word) {  // extremes: all edges agree, none does
            patches[word] = rows[word];
            patches[words + word] = ~rows[word];
            patches[2 * words + word] = 0;
        }
        for (std::size_t patch = 0; patch < kMaxTile; ++patch) {
            for (std::size_t c = 0; c < channels; ++c)
                mismatches.push_back(
                    naive_mismatches(patches.data() + patch * words, rows.data() + c * words, runs.of(patch)));
        }
        for (const std::int32_t m : mismatches) limits.push_back(near(m));
    }

    std::vector<Word> wanted(std::size_t patch) const {
        std::vector<Word> bits(word_count(channels), 0);
        for (std::size_t c = 0; c < channels; ++c)
            bits[c / kWordBits] |= Word{mismatches[patch * channels + c] <= limits[patch * channels + c]}
                                   << (c % kWordBits);
        return bits;
    }

    /// Patches first .. first + count - 1.
    void check(const BinaryKernel& kernel, const Word* packed, std::size_t first, std::size_t count) const {
        BinaryTile tiles[kMaxTile];
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t patch = first + i;
            Word* bits = memory().patches[i].place<Word>(words);
            std::copy_n(patches.data() + patch * words, words, bits);
            auto* bounds = memory().limits[i].place<std::int32_t>(round_up(channels, kernel.lanes));
            std::fill(std::copy_n(limits.data() + patch * channels, channels, bounds),
                      bounds + round_up(channels, kernel.lanes), -1);
            tiles[i] = {bits, bounds, memory().results[i].prepare(word_count(channels)), &runs.of(patch)};
        }
        std::snprintf(current, sizeof current, "%s: %zu channels, %zu words, %zu lists of runs, %zu patches",
                      kernel.name, channels, words, runs.lists.size(), count);
        kernel.dense({tiles, count, packed, words, channels});
        for (std::size_t i = 0; i < count; ++i)
            memory().results[i].expect(wanted(first + i), "patch " + std::to_string(first + i));
    }

    void check(const Isas& isas, bool every_count) const {
        for (const Isa* isa : isas) {
            const BinaryKernel& kernel = *isa->binary;
            const Word* packed = place_blocks(kernel, rows, channels, words);
            for (std::size_t count = 1; count <= kernel.tile; ++count) {
                if (every_count || count <= 3 || count == kernel.tile)
                    check(kernel, packed, random_below(kMaxTile - count + 1), count);
            }
        }
    }
};

/// A dense call with checks, of patches some of whose edges do not exist: there a patch is zero and a weight of one is
/// a mismatch that counts, unless the word is in none of the patch's runs.
struct ExitCase {
    std::size_t words, channels, count;
    RunLists runs;
    std::vector<Word> rows, patches, exists;  // [channels][words], [count][words] twice
    std::vector<std::size_t> checks;

    ExitCase(std::size_t words_, std::size_t channels_)
        : words(words_),
          channels(channels_),
          count(1 + random_below(kMaxTile)),
          runs({{{0, words}}, random_runs(words, 1)}),
          rows(random_words(words_ * channels_)),
          patches(random_words(words_ * count)),
          exists(patches.size(), ~Word{0}) {
        for (std::size_t i = count / 2 * words; i < exists.size(); ++i) exists[i] = generator() | generator();
        for (std::size_t patch = 0; patch < count; ++patch) {
            if (&runs.of(patch) == &runs.of(0)) continue;
            for (std::size_t word = 0; word < words; ++word)
                exists[patch * words + word] &= -Word{runs.has(patch, word)};
        }
        for (std::size_t i = 0; i < patches.size(); ++i) patches[i] &= exists[i];
        for (std::size_t word = 1; word < words; ++word) {
            if (random_below(3) == 0) checks.push_back(word);
        }
    }

    /// Edges that exist in words begin .. words - 1 of a patch; and weights of one where none does.
    std::int32_t rest(std::size_t patch, std::size_t begin) const {
        std::int32_t edges = 0;
        for (std::size_t word = begin; word < words; ++word) edges += std::popcount(exists[patch * words + word]);
        return edges;
    }
    std::int32_t absent(std::size_t patch, std::size_t channel, std::size_t begin) const {
        std::int32_t edges = 0;
        for (std::size_t word = begin; word < words; ++word) {
            if (runs.has(patch, word))
                edges += std::popcount(rows[channel * words + word] & ~exists[patch * words + word]);
        }
        return edges;
    }

    /// extreme: all words are evaluated, and every limit is so low or so high that all neurons are decided before the
    /// first check.
    void check(const BinaryKernel& kernel, bool extreme) const {
        const std::size_t stride = round_up(channels, kernel.lanes);
        BinaryTile tiles[kMaxTile];
        ExitTile exits[kMaxTile];
        std::vector<std::vector<std::int32_t>> rests(count), absents(count);
        std::vector<std::vector<Word>> wanted(count);
        for (std::size_t patch = 0; patch < count; ++patch) {
            std::vector<std::int32_t> limits(stride, -1);
            wanted[patch].assign(word_count(channels), 0);
            for (std::size_t c = 0; c < channels; ++c) {
                const std::int32_t m =
                    naive_mismatches(patches.data() + patch * words, rows.data() + c * words, runs.of(patch));
                limits[c] = extreme ? (c % 2 ? -1 : static_cast<std::int32_t>(words * kWordBits)) : near(m);
                wanted[patch][c / kWordBits] |= Word{m <= limits[c]} << (c % kWordBits);
            }
            absents[patch].assign(checks.size() * stride, 0);
            for (std::size_t i = 0; i < checks.size(); ++i) {
                rests[patch].push_back(rest(patch, checks[i]));
                for (std::size_t c = 0; c < channels; ++c) absents[patch][i * stride + c] = absent(patch, c, checks[i]);
            }
            const WordRuns& evaluated = runs.of(extreme ? 0 : patch);
            // Where all is decided at the first check, the words behind it are not even there.
            const std::size_t readable = extreme ? checks.front() : words;
            Word* bits = memory().patches[patch].place<Word>(readable);
            std::copy_n(patches.data() + patch * words, readable, bits);
            tiles[patch] = {bits, memory().limits[patch].place(limits),
                            memory().results[patch].prepare(word_count(channels)), &evaluated};
            const bool whole = patch < count / 2 && &runs.of(patch) == &runs.of(0);
            exits[patch] = {rests[patch].data(), whole ? nullptr : absents[patch].data()};
        }
        std::snprintf(current, sizeof current, "%s with %zu checks: %zu channels, %zu words, %zu patches", kernel.name,
                      checks.size(), channels, words, count);
        const Word* blocks = place_blocks(kernel, rows, channels, words);
        kernel.exits({tiles, count, blocks, words, channels}, {checks.data(), checks.size(), exits, stride});
        for (std::size_t patch = 0; patch < count; ++patch)
            memory().results[patch].expect(wanted[patch], "patch " + std::to_string(patch));
    }
};

}  // namespace

void test_bits(const Isas& isas) {
    for (std::size_t words = 1; words <= kEveryWords; ++words) {
        for (const std::size_t channels : kChannels) {
            if (!selected()) continue;
            BinaryCase(words, channels, {{{0, words}}}).check(isas, true);
            const std::size_t begin = random_below(words + 1);
            BinaryCase(words, channels, {{{begin, begin + random_below(words - begin + 1)}}}).check(isas, false);
            BinaryCase(words, channels, {{{0, words}}, random_runs(words, 1), {}}).check(isas, false);
        }
    }
    for (const std::size_t channels : {255, 256, 257, 300, 513}) {
        for (const std::size_t words : {1, 9, 16, 36}) {
            if (selected()) BinaryCase(words, channels, {{{0, words}}}).check(isas, false);
        }
    }
    for (const std::size_t words : {1019, 1020, 1021, 1023, 1024, 1025, 2041}) {  // around counts of 65535
        if (selected()) BinaryCase(words, 33, {{{0, words}}}).check(isas, false);
        if (selected()) BinaryCase(words, 5, {{{7, words}}}).check(isas, false);
    }
}

void test_exits(const Isas& isas) {
    for (std::size_t words = 1; words <= kEveryWords; words += 1 + words / 8) {
        for (const std::size_t channels : kChannels) {
            if (!selected()) continue;
            const ExitCase task(words, channels);
            for (const Isa* isa : isas) {
                if (!isa->binary->exits) continue;
                task.check(*isa->binary, false);
                if (!task.checks.empty()) task.check(*isa->binary, true);
            }
        }
    }
    for (const std::size_t words : {1020, 1021}) {  // around counts of 65535
        for (const Isa* isa : isas) {
            if (isa->binary->exits && selected()) ExitCase(words, 33).check(*isa->binary, false);
        }
    }
}

}  // namespace o3bnn::testing
