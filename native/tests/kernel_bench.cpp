// Edges a second of every dense kernel that this machine runs, operands in the cache: interleaved, the best of 15
// rounds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "dispatch.hpp"
#include "engine/aligned.hpp"

namespace {

using namespace o3bnn;

constexpr std::size_t kRounds = 15;
constexpr double kEdgesPerRound = 4e8;

std::mt19937_64 generator(1);

/// Calls run[i]() in turn, `repeats` times a round, and prints edges a second.
template <class Run>
void compare(const std::string& title, double edges, const std::vector<std::string>& names,
             std::vector<Run>& run) {
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
    for (std::size_t i = 0; i < run.size(); ++i) std::printf("  %s %.1f", names[i].c_str(), edges / best[i] / 1e9);
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
    std::vector<std::string> names;
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

/// A convolution over integers: octets of a kernel row, and from one position to the next; new map rows that a row of
/// neurons reads.
struct InputShape {
    std::size_t run, kernel_rows, right, new_rows, channels;

    std::size_t edges() const { return run * kernel_rows; }
};

constexpr std::size_t kPositions = 16;  // one call, of one row of neurons

/// Any integers of 16 bits.
struct IntegerRun {
    const IntegerKernel* kernel;
    InputShape shape;
    std::vector<std::int16_t> values, blocks;
    std::vector<std::int32_t> thresholds;
    std::vector<Word> fired;

    IntegerRun(const IntegerKernel& kernel_, const InputShape& shape_)
        : kernel(&kernel_),
          shape(shape_),
          values(round_up(shape.edges(), kIntegerStep) * kPositions, 100),
          blocks(round_up(shape.channels, kernel->lanes) * shape.edges()),
          thresholds(shape.channels, 1),
          fired(word_count(shape.channels) * kPositions) {
        for (std::int16_t& sign : blocks) sign = generator() & 1 ? 1 : -1;
    }

    void operator()() {
        IntegerTile tiles[kPositions];
        for (std::size_t i = 0; i < kPositions; ++i)
            tiles[i] = {values.data() + i * round_up(shape.edges(), kIntegerStep), thresholds.data(),
                        fired.data() + i * word_count(shape.channels)};
        for (std::size_t i = 0; i < kPositions; i += kernel->tile)
            kernel->dense({tiles + i, std::min(kernel->tile, kPositions - i), blocks.data(), shape.edges(),
                           shape.channels, 255});
    }
};

struct OctetRun {
    const IntegerKernel* kernel;
    InputShape shape;
    std::size_t steps;
    AlignedVector<std::uint8_t> patches;
    AlignedVector<std::int8_t> blocks;
    std::vector<std::int32_t> limits;
    std::vector<Word> fired;

    OctetRun(const IntegerKernel& kernel_, const InputShape& shape_)
        : kernel(&kernel_),
          shape(shape_),
          steps((shape.edges() + kOctetStep - 1) / kOctetStep),
          patches(steps * kOctetStep * kPositions, 100),
          blocks(round_up(shape.channels, kernel->octet_lanes) * steps * kOctetStep),
          limits(round_up(shape.channels, kernel->octet_lanes), 1),
          fired(word_count(shape.channels) * kPositions) {
        for (std::int8_t& sign : blocks) sign = generator() & 1 ? 1 : -1;
    }

    void operator()() {
        OctetTile tiles[kPositions];
        for (std::size_t i = 0; i < kPositions; ++i)
            tiles[i] = {patches.data() + i * steps * kOctetStep, limits.data(),
                        fired.data() + i * word_count(shape.channels)};
        for (std::size_t i = 0; i < kPositions; i += kernel->tile)
            kernel->octets({tiles + i, std::min(kernel->tile, kPositions - i), blocks.data(), steps, shape.channels});
    }
};

/// Look-ups, and the tables of the new map rows.
struct TableRun {
    const IntegerKernel* kernel;
    InputShape shape;
    std::size_t groups, grain, row_tables, stretch;
    std::vector<std::uint8_t> octets;
    AlignedVector<std::int16_t> tables, starts;
    AlignedVector<std::uint16_t> indices;
    std::vector<std::int32_t> limits;
    std::vector<std::int16_t> narrow;
    std::vector<Word> fired;

    TableRun(const IntegerKernel& kernel_, const InputShape& shape_)
        : kernel(&kernel_),
          shape(shape_),
          groups((shape.run + kTableOctets - 1) / kTableOctets),
          grain(std::gcd(shape.right, kTableOctets)),
          row_tables((kPositions - 1) * (shape.right / grain) + (groups - 1) * (kTableOctets / grain) + 1),
          stretch(std::min(shape.kernel_rows,
                           32767 / (shape.run * 128 + (groups * kTableOctets - shape.run) * 255))),
          octets((row_tables - 1) * grain + kTableOctets, 100),
          tables(shape.kernel_rows * row_tables * kTableEntries),
          starts(round_up(shape.channels, kernel->table_lanes) * shape.kernel_rows, 0),
          indices(round_up(shape.channels, kernel->table_lanes) * shape.kernel_rows * groups),
          limits(round_up(shape.channels, kernel->table_lanes), 1),
          narrow(round_up(shape.channels, kernel->table_lanes), 0),
          fired(word_count(shape.channels) * kPositions) {
        for (std::uint16_t& index : indices) index = generator() % kTableEntries;
    }

    void operator()() {
        TableTile tiles[kPositions];
        for (std::size_t i = 0; i < kPositions; ++i)
            tiles[i] = {i * (shape.right / grain), 0, limits.data(), narrow.data(),
                        fired.data() + i * word_count(shape.channels)};
        const std::size_t row_entries = row_tables * kTableEntries;
        for (std::size_t row = 0; row < shape.new_rows; ++row)
            kernel->make_tables(octets.data(), grain, row_tables, tables.data() + row * row_entries);
        std::vector<const std::int16_t*> rows;
        for (std::size_t row = 0; row < shape.kernel_rows; ++row) rows.push_back(tables.data() + row * row_entries);
        kernel->by_tables({tiles, kPositions, rows.data(), shape.kernel_rows, groups, kTableOctets / grain, stretch,
                           indices.data(), starts.data(), shape.channels});
    }
};

/// Every way to evaluate an input stage: names as the engine's, with the form of the operand.
void bench_integers(const std::vector<const Isa*>& isas, const InputShape& shape) {
    std::vector<std::string> names;
    std::vector<std::function<void()>> runs;
    for (const Isa* isa : isas) {
        const IntegerKernel& kernel = *isa->integer;
        const std::string name = isa->name;
        names.push_back(kernel.name);
        runs.push_back(IntegerRun(kernel, shape));
        if (kernel.octets) {
            names.push_back("conv_int_octets_" + name);
            runs.push_back(OctetRun(kernel, shape));
        }
        if (kernel.by_tables) {
            names.push_back("conv_int_tables_" + name);
            runs.push_back(TableRun(kernel, shape));
        }
    }
    compare("integers, fan-in " + std::to_string(shape.edges()) + ", " + std::to_string(shape.channels) +
                " channels, " + std::to_string(kPositions) + " patches",
            static_cast<double>(shape.edges() * shape.channels * kPositions), names, runs);
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
    bench_integers(isas, {9, 3, 3, 1, 64});
    bench_integers(isas, {9, 3, 3, 1, 128});
    bench_integers(isas, {21, 7, 6, 2, 64});
    bench_integers(isas, {33, 11, 12, 4, 96});
}
