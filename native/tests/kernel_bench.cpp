// Edges a second of every dense kernel that this machine runs, operands in the cache: interleaved, the best of 15
// rounds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "dispatch.hpp"

namespace {

using namespace o3bnn;

constexpr std::size_t kRounds = 15;
constexpr double kEdgesPerRound = 4e8;

std::mt19937_64 generator(1);

/// Calls run[i]() in turn, `repeats` times a round, and prints edges a second.
template <class Run>
void compare(const std::string& title, double edges, const std::vector<const char*>& names,
             const std::vector<Run>& run) {
    std::vector<double> best(run.size(), 1e9);
    const auto repeats = std::max<std::size_t>(1, static_cast<std::size_t>(kEdgesPerRound / edges / 10));
    for (std::size_t round = 0; round < kRounds; ++round) {
        for (std::size_t i = 0; i < run.size(); ++i) {
            const auto start = std::chrono::steady_clock::now();
            for (std::size_t r = 0; r < repeats; ++r) run[i]();
            const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
            best[i] = std::min(best[i], taken.count() / static_cast<double>(repeats));
        }
    }
    std::printf("%-42s", title.c_str());
    for (std::size_t i = 0; i < run.size(); ++i) std::printf("  %s %.1f", names[i], edges / best[i] / 1e9);
    std::printf("  G edges/s\n");
}

struct BinaryRun {
    const BinaryKernel* kernel;
    std::vector<Word> blocks, fired;
    std::vector<BinaryTile> tiles;
    std::size_t words, channels;

    void operator()() const {
        for (std::size_t i = 0; i < tiles.size(); i += kernel->tile) {
            const std::size_t count = std::min(kernel->tile, tiles.size() - i);
            kernel->dense({tiles.data() + i, count, blocks.data(), words, channels});
        }
    }
};

void bench_bits(const std::vector<const Isa*>& isas, std::size_t words, std::size_t channels, std::size_t patches) {
    std::vector<Word> rows(words * channels), bits(words * patches);
    for (Word& word : rows) word = generator();
    for (Word& word : bits) word = generator();
    const std::vector<std::int32_t> limits(round_up(channels, 64), static_cast<std::int32_t>(words * kWordBits / 2));
    const WordRange all{0, words};
    const WordRuns all_words{&all, 1};
    std::vector<BinaryRun> runs;
    std::vector<const char*> names;
    for (const Isa* isa : isas) {
        const BinaryKernel& kernel = *isa->binary;
        runs.push_back({&kernel,
                        std::vector<Word>(round_up(channels, kernel.lanes) * words),
                        std::vector<Word>(word_count(channels) * patches),
                        {},
                        words,
                        channels});
        BinaryRun& run = runs.back();
        names.push_back(kernel.name);
        if (kernel.pack) kernel.pack(rows.data(), channels, words, run.blocks.data());
        for (std::size_t c = 0; c < channels && !kernel.pack; ++c) {
            for (std::size_t word = 0; word < words; ++word)
                run.blocks[c / kernel.lanes * kernel.lanes * words + word * kernel.lanes + c % kernel.lanes] =
                    rows[c * words + word];
        }
        for (std::size_t i = 0; i < patches; ++i)
            run.tiles.push_back(
                {bits.data() + i * words, limits.data(), run.fired.data() + i * word_count(channels), &all_words});
    }
    compare("fan-in " + std::to_string(words * kWordBits) + ", " + std::to_string(channels) + " channels, " +
                std::to_string(patches) + " patches",
            static_cast<double>(words * kWordBits * channels * patches), names, runs);
}

struct IntegerRun {
    const IntegerKernel* kernel;
    std::vector<std::int16_t> blocks;
    std::vector<Word> fired;
    std::vector<IntegerTile> tiles;
    std::size_t edges, channels;

    void operator()() const {
        for (std::size_t i = 0; i < tiles.size(); i += kernel->tile)
            kernel->dense(
                {tiles.data() + i, std::min(kernel->tile, tiles.size() - i), blocks.data(), edges, channels, 255});
    }
};

void bench_integers(const std::vector<const Isa*>& isas, std::size_t edges, std::size_t channels, std::size_t patches) {
    const std::size_t stride = round_up(edges, kIntegerStep);
    std::vector<std::int16_t> values(stride * patches);
    for (std::int16_t& value : values) value = static_cast<std::int16_t>(generator() % 511) - 255;
    const std::vector<std::int32_t> thresholds(channels, 1);
    std::vector<IntegerRun> runs;
    std::vector<const char*> names;
    for (const Isa* isa : isas) {
        const IntegerKernel& kernel = *isa->integer;
        runs.push_back({&kernel,
                        std::vector<std::int16_t>(round_up(channels, kernel.lanes) * edges),
                        std::vector<Word>(word_count(channels) * patches),
                        {},
                        edges,
                        channels});
        IntegerRun& run = runs.back();
        names.push_back(kernel.name);
        for (std::int16_t& sign : run.blocks) sign = generator() & 1 ? 1 : -1;
        for (std::size_t i = 0; i < patches; ++i)
            run.tiles.push_back(
                {values.data() + i * stride, thresholds.data(), run.fired.data() + i * word_count(channels)});
    }
    compare("integers, fan-in " + std::to_string(edges) + ", " + std::to_string(channels) + " channels, " +
                std::to_string(patches) + " patches",
            static_cast<double>(edges * channels * patches), names, runs);
}

}  // namespace

int main() {
    std::vector<const Isa*> isas;
    for (const std::string& name : available_isas()) isas.push_back(&find_isa(name));
    bench_bits(isas, 9, 64, 16);
    bench_bits(isas, 18, 128, 16);
    bench_bits(isas, 36, 256, 16);
    bench_bits(isas, 72, 512, 16);
    bench_bits(isas, 72, 512, 4);
    bench_bits(isas, 18, 97, 7);
    bench_bits(isas, 16, 1024, 1);
    bench_bits(isas, 128, 1024, 1);
    bench_bits(isas, 392, 4096, 1);
    bench_integers(isas, 27, 64, 16);
    bench_integers(isas, 27, 128, 16);
    bench_integers(isas, 147, 64, 16);
}
