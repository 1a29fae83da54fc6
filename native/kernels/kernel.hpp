// What a kernel is: the inner work of one stage (patches x output channels) for one instruction set.
//
// The walk over positions, the gathering of patches and the order of pooling windows are the engine's and are shared;
// a kernel sees one or more gathered patches and returns the bits of the neurons that read them. Each instruction set
// has source files of its own (<isa>.cpp, <isa>_*.cpp) that define its named objects (`conv_b1_scalar`, ...) and one
// `Isa` entry; see dispatch.hpp.
//
// A file that is compiled with flags of its own must not share inline code with the others (the linker keeps one copy,
// of any of them): it includes this header, which has plain data and no functions of any weight, headers that keep all
// they define in the anonymous namespace, and headers of declarations.
#pragma once

#include <cstddef>
#include <cstdint>

namespace o3bnn {

using Word = std::uint64_t;
inline constexpr std::size_t kWordBits = 64;
inline constexpr std::size_t kMaxTile = 16;

constexpr std::size_t word_count(std::size_t bits) { return (bits + kWordBits - 1) / kWordBits; }
constexpr std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

/// Edges of the neurons that a pruning kernel visited (constant neurons are not among them).
struct EdgeCounts {
    std::uint64_t visited = 0;  ///< fan-in of every visited neuron, evaluated or not
    std::uint64_t evaluated = 0;
    std::uint64_t threshold_high = 0;
    std::uint64_t threshold_low = 0;

    void add(bool fires, std::uint64_t fan_in, std::uint64_t spent) {
        visited += fan_in;
        evaluated += spent;
        (fires ? threshold_high : threshold_low) += fan_in - spent;
    }
};

/// Words begin .. end - 1 of a patch.
struct WordRange {
    std::size_t begin = 0, end = 0;
    bool operator==(const WordRange&) const = default;
};

/// Words of a patch that are evaluated, in increasing order. The others have no edge that exists, or are evaluated all
/// the same.
struct WordRuns {
    const WordRange* first;
    std::size_t count;
};

/// One patch of a dense binary call. A neuron fires iff popcount(patch ^ row) <= its limit: mismatches at edges that do
/// not exist (the patch holds zeros there) are constants, which the limit includes.
struct BinaryTile {
    const Word* patch;           ///< [words]
    const std::int32_t* limits;  ///< [channels rounded up to the kernel's lanes], -1 beyond the last channel
    Word* fired;                 ///< out: [word_count(channels)], the bits beyond the last channel zero
    const WordRuns* runs;        ///< neighbours that have the same object are evaluated together
};

/// All channels of one group for up to `tile` patches.
struct BinaryDenseTask {
    const BinaryTile* tiles;
    std::size_t count;   ///< tiles, 1 .. the kernel's tile
    const Word* blocks;  ///< weights, lanes interleaved: [channels / lanes][words][lanes], or see BinaryKernel::pack
    std::size_t words;   ///< words of a patch
    std::size_t channels;
};

/// Of one patch, for each check: the edges still to come, and how many weights of one lie where an edge still to come
/// does not exist. Those are mismatches that are sure to come.
struct ExitTile {
    const std::int32_t* rest;    ///< [checks]
    const std::int32_t* absent;  ///< [checks][ExitChecks::stride], or null: all edges exist
};

/// Where a dense call may stop early: before word words[i] of a patch. A neuron of m mismatches so far is
/// decided iff m + absent > limit (silent) or m + absent + rest <= limit (fires).
struct ExitChecks {
    const std::size_t* words;  ///< increasing; those outside of a tile's runs are passed over
    std::size_t count;
    const ExitTile* tiles;  ///< [count of the task]
    std::size_t stride;
};

/// One neuron position of one pooling window.
struct PoolTile {
    const Word* patch;  ///< [row_words], zero beyond the last edge
    const std::int32_t* limits;  ///< [channels rounded up to kWordBits], -1 beyond the last
    const std::int16_t* narrow;  ///< the same in 16 bits, which a row's mismatches fit
    const WordRuns* runs;        ///< not empty; they begin and end at multiples of kRowStep, or at the end of the patch
};

/// All channels of up to `tile` pooling windows, none of which share a neuron.
struct BinaryPoolTask {
    const PoolTile* tiles;  ///< [positions][count]
    std::size_t positions, count;
    Word* const* results;  ///< out, [count][word_count(channels)]: the windows' bits, zero beyond the last channel
    const Word* blocks;    ///< as in BinaryDenseTask
    std::size_t words;
    const Word* rows;       ///< weights: [channels][row_words], zero beyond the last edge
    std::size_t row_words;  ///< words rounded up to kRowStep
    const Word* decisive;   ///< [word_count(channels)] the bits that settle a window
    const Word* exist;      ///< [word_count(channels)] ones for the channels that exist
    std::size_t channels;
};

inline constexpr std::size_t kRowStep = 8;
inline constexpr std::size_t kPoolWords = 127;  ///< of the longest row that a pooling kernel takes: sums fit 13 bits

struct IntegerTile {
    const std::int16_t* patch;       ///< [stride], zero where an edge does not exist and beyond the last edge
    const std::int32_t* thresholds;  ///< [channels]
    Word* fired;                     ///< out: [word_count(channels)], the bits beyond the last channel zero
};

struct IntegerDenseTask {
    const IntegerTile* tiles;
    std::size_t count;
    const std::int16_t* blocks;  ///< weights as -1 and +1, lanes interleaved: [channels / lanes][edges][lanes]
    std::size_t edges;           ///< full fan-in
    std::size_t channels;
    std::int32_t magnitude;  ///< greatest |x| of the input encoding
};

/// The same for inputs u = 0..255. A neuron fires iff the sum of +-u reaches its limit.
struct OctetTile {
    const std::uint8_t*
        patch;  ///< [kOctetStep * steps], zero where an edge does not exist, any value beyond the last edge
    const std::int32_t*
        limits;   ///< [channels rounded up to the kernel's octet_lanes], INT32_MAX beyond the last channel
    Word* fired;  ///< as in IntegerTile
};

inline constexpr std::size_t kOctetStep = 4;  ///< edges that a kernel takes at a time

struct OctetDenseTask {
    const OctetTile* tiles;
    std::size_t count;
    const std::int8_t*
        blocks;  ///< -1 and +1, zero beyond the last edge: [channels / octet_lanes][steps][octet_lanes][kOctetStep]
    std::size_t steps;  ///< fan-in / kOctetStep, rounded up
    std::size_t channels;
};

inline constexpr std::size_t kTableOctets = 6;    ///< neighbouring octets of a map row that one table covers
inline constexpr std::size_t kTableEntries = 64;  ///< entry i is the sum of +-u: u_j is added where bit j of i is set

/// One position of a call by tables. A neuron fires iff `beyond` and the sum of +-(u - 128) over its edges, with the
/// octets beyond the last edge of each kernel row subtracted as they are, reach its limit.
struct TableTile {
    std::size_t table;           ///< of a map row: the first that the patch reads
    std::int32_t beyond;         ///< sum of the octets that the tables cover beyond the last edge of a kernel row
    const std::int32_t* limits;  ///< [channels rounded up to the kernel's table_lanes], INT32_MAX beyond the last
    const std::int16_t* narrow;  ///< limits - 1 in 16 bits (INT16_MAX: never), where the stretch holds all kernel rows
    Word* fired;                 ///< as in IntegerTile
};

/// All channels of some positions of one row, by look-up: tables are made once a map row, and patches that overlap
/// share them.
struct TableTask {
    const TableTile* tiles;
    std::size_t count;
    const std::int16_t* const* rows;  ///< [kernel_rows] tables of the map rows that the patches read
    std::size_t kernel_rows;
    std::size_t groups;            ///< tables of a kernel row
    std::size_t group_step;        ///< from one of them to the next, in tables of the map row
    std::size_t stretch;           ///< kernel rows whose sums fit 16 bits
    const std::uint16_t* indices;  ///< entries: [channels / table_lanes][kernel_rows][groups][table_lanes]
    const std::int16_t* starts;    ///< -128 times the sum of weights, modulo 2^16: [stretches][channels, whole lanes]
    std::size_t channels;
};

inline constexpr std::size_t kIntegerStep = 16;  ///< integer patches and rows are padded to a multiple of this

/// The neurons of one position that are to be evaluated edge word by edge word. None of them is constant, so each is
/// decided at its last existing edge at the latest.
struct PruneTask {
    std::size_t words;               ///< words of a full patch
    std::size_t first_word;          ///< first word with an existing edge
    const Word* exists;              ///< [words] existing edges
    const std::int32_t* seen;        ///< [words] number of existing edges in the words up to and including this one
    std::int32_t fan_in;             ///< K, of this position's border class
    const std::int32_t* thresholds;  ///< [out_channels]
    std::size_t begin, end;          ///< channels begin <= c < end only
    const Word* asked;               ///< [word_count(out_channels)] channels to evaluate
    Word* fired;                     ///< in, out: the bit of a channel that fires is set
    EdgeCounts* counts;              ///< where a counting kernel adds up; else unused
    std::size_t word;                ///< edge word width B of a counting kernel; else unused
    std::int32_t* workspace;         ///< of a counting kernel, see prune_workspace
};

struct BinaryPruneTask : PruneTask {
    const Word* patch;  ///< [words]
    const Word* rows;   ///< weights: [out_channels][words]
};

struct IntegerPruneTask : PruneTask {
    const std::int16_t* patch;  ///< [stride]
    const std::int8_t* signs;   ///< [out_channels][stride]
    std::size_t stride;
    std::int32_t magnitude;  ///< greatest |x| of the input encoding
};

using BinaryPrune = void (*)(const BinaryPruneTask&);
using IntegerPrune = void (*)(const IntegerPruneTask&);

/// Bits in: popcount of xor.
struct BinaryKernel {
    const char* name;
    std::size_t lanes;  ///< channels interleaved in a weight block: a power of two up to 64
    std::size_t tile;   ///< patches a dense call takes at most, up to kMaxTile
    void (*dense)(const BinaryDenseTask&);
    void (*exits)(const BinaryDenseTask&, const ExitChecks&);  ///< dense, stopping early; null where there is none
    BinaryPrune
        prune;  ///< simple bounds; the portable one decides after every word of 64 edges, others may do so later
    void (*pool)(const BinaryPoolTask&);  ///< leaves settled channels of a window alone; null where there is none
    /// Lays one group's rows out as the dense kernel's blocks, which are zero before: [channels rounded up to
    /// lanes][words] words in all. Null where they are interleaved as BinaryDenseTask says.
    void (*pack)(const Word* rows, std::size_t channels, std::size_t words, Word* blocks) = nullptr;
    bool mixes_runs = false;  ///< whether a call whose tiles have different runs gains by them; else few are to differ
};

/// Integers in: signed sums.
struct IntegerKernel {
    const char* name;
    std::size_t lanes, tile;  ///< as in BinaryKernel
    void (*dense)(const IntegerDenseTask&);
    IntegerPrune prune;                               ///< edge words of 64, simple bounds
    std::size_t octet_lanes = 0;                      ///< as `lanes`, for `octets`
    void (*octets)(const OctetDenseTask&) = nullptr;  ///< null where there is none
    std::size_t table_lanes = 0;                      ///< as `lanes`, for `by_tables`
    /// Table i of `count` is that of octets + i * step. out: [count][kTableEntries], at a cache line.
    void (*make_tables)(const std::uint8_t* octets, std::size_t step, std::size_t count, std::int16_t* out) = nullptr;
    void (*by_tables)(const TableTask&) = nullptr;  ///< null where there is none, as make_tables
};

/// The output stage: sums[c] = 2 m - K for one packed row of K bits.
struct OutputKernel {
    const char* name;
    void (*sums)(const Word* bits, const Word* rows, std::size_t words, std::int32_t fan_in, std::size_t classes,
                 std::int32_t* sums);
};

extern const BinaryKernel conv_b1_scalar;
extern const IntegerKernel conv_int_scalar;
extern const OutputKernel output_scalar;

extern const BinaryKernel conv_b1_avx512;
extern const IntegerKernel conv_int_avx512;
extern const OutputKernel output_avx512;

extern const BinaryKernel conv_b1_avx2;
extern const IntegerKernel conv_int_avx2;
extern const OutputKernel output_avx2;

extern const BinaryKernel conv_b1_neon;
extern const IntegerKernel conv_int_neon;
extern const OutputKernel output_neon;

}  // namespace o3bnn
