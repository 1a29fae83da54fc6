// Portable kernels: no instruction beyond what the compiler assumes for the architecture.
//
// Dense: four channels side by side, so that a compiler with 128-bit vectors uses them. Three words at a time go
// through a full adder (sum and carry), which leaves two popcounts for three words; counts stay in octets until they
// might overflow.
#include "kernels/pool_rows.hpp"
#include "kernels/prune.hpp"

namespace o3bnn {
namespace {

constexpr std::size_t kLanes = 4;
constexpr std::size_t kIntegerLanes = 32;
constexpr std::size_t kTile = 4;
constexpr std::size_t kTriplesPerFlush =
    9;  // a triple adds up to 24 to an octet, a word of the tail 8: 9 * 24 + 2 * 8 <= 255

struct Mismatches {
    std::int32_t total[kLanes];
};

void flush(Word (&octets)[kLanes], Mismatches& counts) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        counts.total[lane] += sum_octets(octets[lane]);
        octets[lane] = 0;
    }
}

void add_triple(const Word* patch, const Word* weights, Word (&octets)[kLanes]) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const Word a = patch[0] ^ weights[lane];
        const Word b = patch[1] ^ weights[kLanes + lane];
        const Word c = patch[2] ^ weights[2 * kLanes + lane];
        const Word half = a ^ b;
        const Word ones = add_pairs(count_pairs(half ^ c));
        const Word twos = add_pairs(count_pairs((a & b) | (half & c)));
        const Word nibbles = ones + twos + twos;
        octets[lane] += (nibbles & kOctets) + ((nibbles >> 4) & kOctets);
    }
}

/// Ones of patch ^ row for kLanes interleaved rows: block is [words][kLanes].
[[gnu::always_inline]] inline Mismatches count_mismatches(const Word* patch, const Word* block, std::size_t words) {
    Mismatches counts{};
    Word octets[kLanes] = {};
    std::size_t word = 0;
    for (;;) {
        const std::size_t stop = std::min(words / 3 * 3, word + 3 * kTriplesPerFlush);
        for (; word < stop; word += 3) add_triple(patch + word, block + word * kLanes, octets);
        if (words - word < 3) break;
        flush(octets, counts);
    }
    for (; word < words; ++word) {
        for (std::size_t lane = 0; lane < kLanes; ++lane)
            octets[lane] += count_octets(patch[word] ^ block[word * kLanes + lane]);
    }
    flush(octets, counts);
    return counts;
}

/// The same over several runs of words, or none.
[[gnu::noinline]] Mismatches count_mismatches(const Word* patch, const Word* block, const WordRuns& runs) {
    Mismatches counts{};
    for (const WordRange* run = runs.first; run < runs.first + runs.count; ++run) {
        const std::size_t begin = run->begin;
        const Mismatches more = count_mismatches(patch + begin, block + begin * kLanes, run->end - begin);
        for (std::size_t lane = 0; lane < kLanes; ++lane) counts.total[lane] += more.total[lane];
    }
    return counts;
}

void dense_bits(const BinaryDenseTask& task) {
    for (std::size_t tile = 0; tile < task.count; ++tile)
        std::fill_n(task.tiles[tile].fired, word_count(task.channels), Word{0});
    for (std::size_t channel = 0; channel < task.channels; channel += kLanes) {
        const Word* block = task.blocks + channel * task.words;
        for (std::size_t tile = 0; tile < task.count; ++tile) {
            const BinaryTile& t = task.tiles[tile];
            const auto [begin, end] = t.runs->count == 1 ? *t.runs->first : WordRange{};
            const Mismatches counts = t.runs->count == 1
                                          ? count_mismatches(t.patch + begin, block + begin * kLanes, end - begin)
                                          : count_mismatches(t.patch, block, *t.runs);
            Word bits = 0;
            for (std::size_t lane = 0; lane < kLanes; ++lane)
                bits |= Word{counts.total[lane] <= t.limits[channel + lane]} << lane;
            t.fired[channel / kWordBits] |= bits << (channel % kWordBits);
        }
    }
}

/// What PoolShare needs.
struct Rows {
    static constexpr std::size_t kChannels = kWordBits;
    static constexpr std::size_t kCost = 2;

    static void dense(const BinaryDenseTask& task) { dense_bits(task); }

    static PairMismatches mismatches(const Word* patch, const RowPair& rows, const WordRuns& runs) {
        PairMismatches counts = {0, 0};
        for (std::size_t run = 0; run < runs.count; ++run) {
            for (std::size_t word = runs.first[run].begin; word < runs.first[run].end; ++word) {
                counts.first += popcount(patch[word] ^ rows.first[word]);
                counts.second += popcount(patch[word] ^ rows.second[word]);
            }
        }
        return counts;
    }
};

struct SignedSums {
    std::int32_t total[kIntegerLanes];
};

/// Sums of sign times input for kIntegerLanes interleaved rows; block is [edges][kIntegerLanes]. They are kept in 16
/// bits for as many edges as cannot overflow.
SignedSums signed_sums(const std::int16_t* patch, const std::int16_t* block, std::size_t edges,
                       std::size_t edges_per_flush) {
    SignedSums sums{};
    for (std::size_t edge = 0; edge < edges;) {
        std::int16_t part[kIntegerLanes] = {};
        for (const std::size_t stop = std::min(edges, edge + edges_per_flush); edge < stop; ++edge) {
            const std::int16_t* signs = block + edge * kIntegerLanes;
            for (std::size_t lane = 0; lane < kIntegerLanes; ++lane)
                part[lane] = static_cast<std::int16_t>(part[lane] + patch[edge] * signs[lane]);
        }
        for (std::size_t lane = 0; lane < kIntegerLanes; ++lane) sums.total[lane] += part[lane];
    }
    return sums;
}

/// The same for inputs down to -32768, whose product with -1 does not fit 16 bits.
SignedSums signed_sums_wide(const std::int16_t* patch, const std::int16_t* block, std::size_t edges) {
    SignedSums sums{};
    for (std::size_t edge = 0; edge < edges; ++edge) {
        for (std::size_t lane = 0; lane < kIntegerLanes; ++lane)
            sums.total[lane] += std::int32_t{patch[edge]} * block[edge * kIntegerLanes + lane];
    }
    return sums;
}

void dense_integers(const IntegerDenseTask& task) {
    constexpr std::int32_t kLargest = 32767;
    const auto edges_per_flush = static_cast<std::size_t>(kLargest / std::max(task.magnitude, 1));
    for (std::size_t tile = 0; tile < task.count; ++tile)
        std::fill_n(task.tiles[tile].fired, word_count(task.channels), Word{0});
    for (std::size_t first = 0; first < task.channels; first += kIntegerLanes) {
        const std::int16_t* block = task.blocks + first * task.edges;
        const std::size_t lanes = std::min(kIntegerLanes, task.channels - first);
        for (std::size_t tile = 0; tile < task.count; ++tile) {
            const IntegerTile& t = task.tiles[tile];
            const SignedSums sums = edges_per_flush > 0 ? signed_sums(t.patch, block, task.edges, edges_per_flush)
                                                        : signed_sums_wide(t.patch, block, task.edges);
            Word bits = 0;
            for (std::size_t lane = 0; lane < lanes; ++lane)
                bits |= Word{sums.total[lane] >= t.thresholds[first + lane]} << lane;
            t.fired[first / kWordBits] |= bits << (first % kWordBits);
        }
    }
}

void output_sums(const Word* bits, const Word* rows, std::size_t words, std::int32_t fan_in, std::size_t classes,
                 std::int32_t* sums) {
    for (std::size_t c = 0; c < classes; ++c) {
        std::int32_t mismatches = 0;
        for (std::size_t word = 0; word < words; ++word) mismatches += popcount(bits[word] ^ rows[c * words + word]);
        sums[c] = fan_in - 2 * mismatches;
    }
}

}  // namespace

constinit const BinaryKernel conv_b1_scalar = {
    "conv_b1_scalar", kLanes, kTile, dense_bits, nullptr, prune_bits<Uncounted>, pool_by_rows<Rows>, nullptr};
constinit const IntegerKernel conv_int_scalar = {"conv_int_scalar", kIntegerLanes, kTile, dense_integers,
                                                 prune_integers<SimpleBounds, Uncounted>};
constinit const OutputKernel output_scalar = {"output_scalar", output_sums};

}  // namespace o3bnn
