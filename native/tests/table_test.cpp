// Kernels that look sums of octets up in tables.
#include <numeric>

#include "engine/aligned.hpp"
#include "guarded.hpp"

namespace o3bnn::testing {
namespace {

/// Some positions of one row, by tables.
struct TableCase {
    std::size_t run, kernel_rows, right, channels, count;  ///< run, right: octets of a kernel row, between positions
    std::size_t grain, groups, row_octets;
    std::vector<std::uint8_t> map;   // [kernel_rows][row_octets]
    std::vector<std::int8_t> signs;  // [channels][kernel_rows][run]

    TableCase(std::size_t run_, std::size_t kernel_rows_, std::size_t right_, std::size_t channels_)
        : run(run_),
          kernel_rows(kernel_rows_),
          right(right_),
          channels(channels_),
          count(1 + random_below(kMaxTile)),
          grain(std::gcd(right_, kTableOctets)),
          groups((run_ + kTableOctets - 1) / kTableOctets),
          row_octets((count - 1) * right_ + groups * kTableOctets),
          map(kernel_rows_ * row_octets),
          signs(channels_ * kernel_rows_ * run_) {
        const bool extreme = random_below(4) == 0;
        for (std::uint8_t& octet : map)
            octet = static_cast<std::uint8_t>(extreme ? 255 * random_below(2) : generator());
        for (std::size_t i = 0; i < signs.size(); ++i)
            signs[i] = (extreme ? i / run / kernel_rows : generator()) & 1 ? 1 : -1;
    }

    /// For 7 x 21: a first patch whose octets, all subtracted in lanes beyond the last channel, make INT16_MAX there.
    void fill_up() {
        std::fill(map.begin(), map.end(), std::uint8_t{223});
        map[0] = 211;
    }

    std::int32_t sum(std::size_t position, std::size_t channel) const {
        std::int32_t sum = 0;
        for (std::size_t row = 0; row < kernel_rows; ++row) {
            const std::uint8_t* octets = map.data() + row * row_octets + position * right;
            for (std::size_t i = 0; i < run; ++i)
                sum += (octets[i] - 128) * signs[(channel * kernel_rows + row) * run + i];
        }
        return sum;
    }

    /// What a kernel reads, laid out as TableTask says.
    struct Operands {
        std::size_t stretch;
        AlignedVector<std::uint16_t> indices;
        AlignedVector<std::int16_t> starts, entries;
        std::vector<const std::int16_t*> rows;
    };

    Operands operands(const IntegerKernel& kernel) const {
        const std::size_t lanes = kernel.table_lanes, padded = round_up(channels, lanes);
        const std::size_t stretch = std::min(kernel_rows, 32767 / (run * 128 + (groups * kTableOctets - run) * 255));
        const std::size_t row_entries = ((row_octets - kTableOctets) / grain + 1) * kTableEntries;
        Operands made{stretch, AlignedVector<std::uint16_t>(padded * kernel_rows * groups, 0),
                      AlignedVector<std::int16_t>(((kernel_rows - 1) / stretch + 1) * padded, 0),
                      AlignedVector<std::int16_t>(kernel_rows * row_entries),
                      {}};
        for (std::size_t i = 0; i < signs.size(); ++i) {
            const std::size_t channel = i / run / kernel_rows, row = i / run % kernel_rows, place = i % run;
            std::int16_t& start = made.starts[row / stretch * padded + channel];
            start = static_cast<std::int16_t>(start - 128 * signs[i]);
            const std::size_t group = (channel / lanes * kernel_rows + row) * groups + place / kTableOctets;
            const auto bit = static_cast<std::uint16_t>(signs[i] > 0 ? 1 << place % kTableOctets : 0);
            made.indices[group * lanes + channel % lanes] |= bit;
        }
        for (std::size_t row = 0; row < kernel_rows; ++row) {
            auto* octets = memory().patches[0].place<std::uint8_t>(row_octets);
            std::copy_n(map.data() + row * row_octets, row_octets, octets);
            made.rows.push_back(made.entries.data() + row * row_entries);
            kernel.make_tables(octets, grain, row_entries / kTableEntries, made.entries.data() + row * row_entries);
        }
        return made;
    }

    std::int32_t beyond(std::size_t position) const {
        std::int32_t sum = 0;
        for (std::size_t row = 0; row < kernel_rows; ++row) {
            for (std::size_t octet = run; octet < groups * kTableOctets; ++octet)
                sum += map[row * row_octets + position * right + octet];
        }
        return sum;
    }

    /// The limits in 16 bits or 32: only those that the kernel is to look at can be read.
    TableTile tile(std::size_t position, const std::vector<std::int32_t>& limits, bool narrow) const {
        TableTile made = {position * right / grain, beyond(position), nullptr, nullptr,
                          memory().results[position].prepare(word_count(channels))};
        if (!narrow) {
            made.limits = memory().limits[position].place(limits);
            return made;
        }
        std::vector<std::int16_t> clamped;
        for (const std::int64_t limit : limits)
            clamped.push_back(static_cast<std::int16_t>(std::clamp<std::int64_t>(limit - 1, -32768, 32767)));
        made.narrow = memory().limits[position].place(clamped);
        return made;
    }

    void check(const IntegerKernel& kernel) const {
        const Operands own = operands(kernel);
        std::vector<std::vector<Word>> wanted(count, std::vector<Word>(word_count(channels), 0));
        TableTile tiles[kMaxTile];
        for (std::size_t i = 0; i < count; ++i) {
            std::vector<std::int32_t> limits(round_up(channels, kernel.table_lanes),
                                             std::numeric_limits<std::int32_t>::max());
            for (std::size_t c = 0; c < channels; ++c) {
                const std::int32_t exact = sum(i, c);
                limits[c] = near(exact);
                wanted[i][c / kWordBits] |= Word{exact >= limits[c]} << (c % kWordBits);
            }
            tiles[i] = tile(i, limits, own.stretch == kernel_rows);
        }
        std::snprintf(current, sizeof current, "%s by tables: %zu channels, %zu x %zu octets, %zu positions",
                      kernel.name, channels, kernel_rows, run, count);
        kernel.by_tables({tiles, count, own.rows.data(), kernel_rows, groups, kTableOctets / grain, own.stretch,
                          own.indices.data(), own.starts.data(), channels});
        for (std::size_t i = 0; i < count; ++i)
            memory().results[i].expect(wanted[i], "position " + std::to_string(i));
    }
};

}  // namespace

void test_tables(const Isas& isas) {
    constexpr std::size_t kShapes[][3] = {{9, 3, 3},  {33, 11, 12}, {21, 7, 6}, {15, 5, 3},  {3, 3, 1},
                                          {1, 1, 1},  {6, 2, 4},    {8, 4, 16}, {250, 3, 2}, {100, 20, 5}};
    for (const auto& [run, kernel_rows, right] : kShapes) {
        for (const std::size_t channels : kChannels) {
            if (!selected()) continue;
            TableCase task(run, kernel_rows, right, channels);
            if (run == 21 && channels % 32 == 1) task.fill_up();
            for (const Isa* isa : isas) {
                if (isa->integer->by_tables) task.check(*isa->integer);
            }
        }
    }
}

}  // namespace o3bnn::testing
