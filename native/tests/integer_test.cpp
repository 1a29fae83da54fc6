// Kernels of stages of integers and of octets.
#include "guarded.hpp"

namespace o3bnn::testing {
namespace {

struct IntegerCase {
    std::size_t edges, stride, channels;
    std::int32_t magnitude;
    std::vector<std::int16_t> patches;  // [kMaxTile][stride]
    std::vector<std::int8_t> signs;     // [channels][edges]
    std::vector<std::int32_t> sums, thresholds;

    IntegerCase(std::size_t edges_, std::size_t channels_, std::int32_t magnitude_)
        : edges(edges_),
          stride(round_up(edges_, kIntegerStep)),
          channels(channels_),
          magnitude(magnitude_),
          patches(kMaxTile * stride, 0),
          signs(channels_ * edges_) {
        for (std::int8_t& sign : signs) sign = generator() & 1 ? 1 : -1;
        const std::int32_t greatest = std::min(magnitude, 32767), bound = magnitude * static_cast<std::int32_t>(edges);
        for (std::size_t patch = 0; patch < kMaxTile; ++patch) {
            for (std::size_t edge = 0; edge < edges; ++edge) {
                auto x = static_cast<std::int32_t>(random_below(static_cast<std::size_t>(greatest + magnitude + 1))) -
                         magnitude;
                if (patch == 0) x = signs[edge] > 0 ? greatest : -magnitude;  // the greatest and the least sum
                if (patch == 1) x = signs[edge] > 0 ? -magnitude : greatest;
                patches[patch * stride + edge] = static_cast<std::int16_t>(x);
            }
            for (std::size_t c = 0; c < channels; ++c) {
                std::int32_t sum = 0;
                for (std::size_t edge = 0; edge < edges; ++edge)
                    sum += patches[patch * stride + edge] * signs[c * edges + edge];
                sums.push_back(sum);
                thresholds.push_back(std::clamp(near(sum), -bound, bound + 1));  // as in a validated network
            }
        }
    }

    std::vector<std::int16_t> blocks(std::size_t lanes) const {
        std::vector<std::int16_t> out(round_up(channels, lanes) * edges, 0);
        for (std::size_t c = 0; c < channels; ++c) {
            for (std::size_t edge = 0; edge < edges; ++edge)
                out[c / lanes * lanes * edges + edge * lanes + c % lanes] = signs[c * edges + edge];
        }
        return out;
    }

    void check(const IntegerKernel& kernel, const std::int16_t* packed, std::size_t first, std::size_t count) const {
        IntegerTile tiles[kMaxTile];
        for (std::size_t i = 0; i < count; ++i) {
            auto* values = memory().patches[i].place<std::int16_t>(stride);
            std::copy_n(patches.data() + (first + i) * stride, stride, values);
            auto* bounds = memory().limits[i].place<std::int32_t>(channels);
            std::copy_n(thresholds.data() + (first + i) * channels, channels, bounds);
            tiles[i] = {values, bounds, memory().results[i].prepare(word_count(channels))};
        }
        std::snprintf(current, sizeof current, "%s: %zu channels, %zu edges, magnitude %d, %zu patches", kernel.name,
                      channels, edges, magnitude, count);
        kernel.dense({tiles, count, packed, edges, channels, magnitude});
        for (std::size_t i = 0; i < count; ++i) {
            std::vector<Word> wanted(word_count(channels), 0);
            for (std::size_t c = 0; c < channels; ++c) {
                const std::size_t at = (first + i) * channels + c;
                wanted[c / kWordBits] |= Word{sums[at] >= thresholds[at]} << (c % kWordBits);
            }
            memory().results[i].expect(wanted, "patch " + std::to_string(first + i));
        }
    }
};

struct OctetCase {
    std::size_t edges, steps, channels, count;
    std::vector<std::uint8_t> patches;  // [count][steps * kOctetStep]
    std::vector<std::int8_t> signs;     // [channels][edges]

    OctetCase(std::size_t edges_, std::size_t channels_, std::size_t count_)
        : edges(edges_),
          steps((edges_ + kOctetStep - 1) / kOctetStep),
          channels(channels_),
          count(count_),
          patches(count_ * steps * kOctetStep),
          signs(channels_ * edges_) {
        for (std::int8_t& sign : signs) sign = generator() & 1 ? 1 : -1;
        for (std::size_t i = 0; i < patches.size(); ++i) {
            const std::size_t patch = i / (steps * kOctetStep), edge = i % (steps * kOctetStep);
            patches[i] = static_cast<std::uint8_t>(generator());
            if (patch < 2 && edge < edges)
                patches[i] = (signs[edge] > 0) == (patch == 0) ? 255 : 0;  // greatest and least sum
        }
    }

    const std::int8_t* place(std::size_t lanes) const {
        std::vector<std::int8_t> out(round_up(channels, lanes) * steps * kOctetStep, 0);
        for (std::size_t c = 0; c < channels; ++c) {
            for (std::size_t edge = 0; edge < edges; ++edge)
                out[((c / lanes * steps + edge / kOctetStep) * lanes + c % lanes) * kOctetStep + edge % kOctetStep] =
                    signs[c * edges + edge];
        }
        return memory().blocks.place(out);
    }

    void check(const IntegerKernel& kernel) const {
        OctetTile tiles[kMaxTile];
        std::vector<std::vector<Word>> wanted(count);
        for (std::size_t patch = 0; patch < count; ++patch) {
            const std::uint8_t* values = patches.data() + patch * steps * kOctetStep;
            std::vector<std::int32_t> limits(round_up(channels, kernel.octet_lanes),
                                             std::numeric_limits<std::int32_t>::max());
            wanted[patch].assign(word_count(channels), 0);
            for (std::size_t c = 0; c < channels; ++c) {
                std::int32_t sum = 0;
                for (std::size_t edge = 0; edge < edges; ++edge) sum += values[edge] * signs[c * edges + edge];
                limits[c] = near(sum);
                wanted[patch][c / kWordBits] |= Word{sum >= limits[c]} << (c % kWordBits);
            }
            auto* octets = memory().patches[patch].place<std::uint8_t>(steps * kOctetStep);
            std::copy_n(values, steps * kOctetStep, octets);
            tiles[patch] = {octets, memory().limits[patch].place(limits),
                            memory().results[patch].prepare(word_count(channels))};
        }
        std::snprintf(current, sizeof current, "%s on octets: %zu channels, %zu edges, %zu patches", kernel.name,
                      channels, edges, count);
        kernel.octets({tiles, count, place(kernel.octet_lanes), steps, channels});
        for (std::size_t patch = 0; patch < count; ++patch)
            memory().results[patch].expect(wanted[patch], "patch " + std::to_string(patch));
    }
};

}  // namespace

void test_integers(const Isas& isas) {
    for (const std::size_t edges : {1, 2, 3, 15, 16, 17, 27, 32, 33, 64, 75, 128, 129, 147, 300}) {
        for (const std::int32_t magnitude : {0, 1, 2, 127, 255, 1000, 16384, 32767, 32768}) {
            for (const std::size_t channels : kChannels) {
                if (!selected()) continue;
                const IntegerCase task(edges, channels, magnitude);
                for (const Isa* isa : isas) {
                    const IntegerKernel& kernel = *isa->integer;
                    const std::int16_t* packed = memory().blocks.place(task.blocks(kernel.lanes));
                    for (const std::size_t count :
                         {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{4}, kernel.tile}) {
                        if (count <= kernel.tile) task.check(kernel, packed, random_below(kMaxTile - count + 1), count);
                    }
                }
            }
        }
    }
}

void test_octets(const Isas& isas) {
    for (const std::size_t edges : {1, 2, 3, 4, 5, 27, 32, 75, 147, 255, 256, 257, 300, 1000}) {
        for (const std::size_t channels : kChannels) {
            if (!selected()) continue;
            const OctetCase task(edges, channels, 1 + random_below(kMaxTile));
            for (const Isa* isa : isas) {
                if (isa->integer->octets) task.check(*isa->integer);
            }
        }
    }
}

}  // namespace o3bnn::testing
