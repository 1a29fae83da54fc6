// What the machine is and what it runs, as Python hands it over; docs/timing.md gives the rules (T1 ...).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace o3bnn::accel {

using Word = std::uint64_t;
using Cycle = std::int64_t;

/// The fields of `AcceleratorConfig` that decide cycles.
struct Config {
    int pes = 0, word = 0, stations = 0, latency = 0, depth = 0;
    bool speculate = false, lockstep = false, prune = false, round_robin = false, sharp = false, help = false;
    int bounds_words = 0, loader_words = 0, slot_words = 0;
    int dram_bits = 0, dram_latency = 0, burst_words = 0;
    int stream_words = 0;  ///< words of each bank that resident stages leave

    /// 64-bit words that hold one edge word.
    int limbs() const { return (word + 63) / 64; }
};

/// One walk over the windows of a stage.
struct PassPlan {
    int groups = 0, lanes = 0, slots = 0;
    std::vector<int> channels;  ///< [lanes][slots], -1 where a lane has fewer
    bool resident = true;
    int strip = 0;  ///< T5: windows that a group takes at once
    int neuron_map_rows = 0;  ///< T5: rows of neurons whose bits all strips see; 0: strips share nothing

    bool shared() const { return neuron_map_rows > 0; }
};

struct Extent {
    int rows = 1, columns = 1;
};

/// One stage. Thresholds are on the score of T2: matches weighted by 2^plane.
struct StagePlan {
    int in_rows = 0, in_columns = 0, in_channels = 0, rows = 0, columns = 0, channels = 0;
    Extent kernel, stride, pool, pool_stride;
    int top = 0, left = 0, groups = 1, planes = 1, edge_words = 0;
    int images = 1;                                ///< T28: of the batch
    bool output = false;                           ///< sums rather than bits
    bool single = false;                           ///< every weight is used once, and every word exists
    std::int64_t image_places = 0;                 ///< T30: elements held of what comes from DRAM; 0: all is here
    bool spilled_in = false, spilled_out = false;  ///< its maps live in DRAM
    std::vector<Word> weights;                     ///< [channels][edge_words][limbs]
    std::vector<Word> exists;                      ///< [classes][edge_words][limbs]
    std::vector<std::int64_t> thresholds;          ///< [classes][channels]
    std::vector<std::uint8_t> decisive;            ///< [channels]
    std::vector<int> class_map;                    ///< [rows][columns]
    std::vector<PassPlan> passes;

    int out_rows() const { return (rows - pool.rows) / pool_stride.rows + 1; }
    int out_columns() const { return (columns - pool.columns) / pool_stride.columns + 1; }
    int image_windows() const { return out_rows() * out_columns(); }
    int windows() const { return images * image_windows(); }
    int positions() const { return pool.rows * pool.columns; }
    bool overlaps() const { return pool_stride.rows < pool.rows || pool_stride.columns < pool.columns; }
};

enum Stall { kUnmapped, kWeights, kDecision, kImbalance, kImage, kWindow, kDispatch, kDrain, kStalls };

/// What happened in a stage. Every PE cycle is one of the words or of the stalls.
struct Counters {
    std::int64_t cycles = 0, passes = 0;
    std::int64_t useful_words = 0, overrun_words = 0, squashed_words = 0, halo_words = 0;
    std::int64_t dense = 0, evaluated = 0, constant = 0, high = 0, low = 0, pooling = 0, wasted = 0;  // edges
    std::int64_t neurons = 0, squashed_neurons = 0, windows = 0;
    std::int64_t slot_writes = 0, map_reads = 0, map_write_bits = 0, weight_writes = 0, dram_weight_bits = 0,
                 dram_map_bits = 0;
    std::int64_t station_cycles = 0, slot_word_cycles = 0, slot_words_peak = 0;
    std::array<std::int64_t, kStalls> stalls{};
    std::vector<std::int64_t> channel_words;  ///< useful words of each channel
};

enum class Event : std::uint8_t { dispatch, issue, decide, squash, load, retire };

/// One step of one neuron (or window: pe = group, channel = -1). `value`: word, bit, or patch words.
struct TraceEvent {
    Cycle cycle;
    Event kind;
    int stage, pe, window, position, channel, value;
    std::int64_t neuron;
};

/// Events of the cycles first .. last - 1, at most `limit` of them.
struct Trace {
    Cycle first = 0, last = 0;
    std::size_t limit = 0;
    std::vector<TraceEvent> events;

    bool on(Cycle now) const { return now >= first && now < last && events.size() < limit; }
    void add(const TraceEvent& event) { events.push_back(event); }
};

}  // namespace o3bnn::accel
