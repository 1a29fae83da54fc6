// What the units of one pass share: neurons in flight, PEs, groups and their windows.
#pragma once

#include <algorithm>
#include <deque>

#include "accel/layer.hpp"
#include "accel/weights.hpp"

namespace o3bnn::accel {

constexpr int kIssueRing = 16;  ///< issue times that a neuron remembers; no latency is longer

/// State of a neuron in its group's scoreboard.
enum Status : std::uint8_t { kUnvisited, kInStation, kInPipe, kSilent, kFired };
/// State of an output bit of a group.
enum Settled : std::uint8_t { kOpen, kZero, kOne };

struct Neuron {
    bool active = false, in_station = false, queued = false, dead = false, speculative = false;
    int border = 0, window = 0, row = 0, column = 0, position = 0, slot = 0, issued = 0, known = 0;
    std::int64_t id = 0;
    std::array<std::uint32_t, kIssueRing> times{};  ///< cycles modulo 2^32
    Evaluation value;
};

struct Outcome {
    Cycle time;
    int neuron;
};

struct Pe {
    int index = 0, group = 0, lane = 0, channels = 0;
    std::vector<Neuron> pool;
    std::vector<int> idle;      ///< places in the pool that hold none
    std::vector<int> stations;  ///< neurons that hold one, oldest first
    std::deque<Outcome> pipe;   ///< decisions to come
    std::vector<std::vector<Word>>
        available;                           ///< [ring][slot bits]: pairs with a neuron to dispatch and none in flight
    std::vector<std::vector<Word>> pending;  ///< the same, with one in flight
    std::vector<std::vector<std::uint8_t>> vacated;
    std::vector<int> left;  ///< [ring] pairs not vacated
    Cycle bounds_until = 0;
    std::int64_t last_issued = -1;
    bool issued = false;
};

/// A window that is loaded and not retired.
struct Slot {
    int window = 0, open = 0, busy = 0;
    Patch patch;
};

struct Step {
    int window = 0, position = 0, slot = -1;
    int running = 0;  ///< PEs whose station is not released yet
};

struct Group {
    int index = 0, first_row = 0;
    std::vector<int> windows;                 ///< of the stage, in the order in which the group takes them
    int oldest = 0, loaded = 0, retired = 0;  ///< indices into `windows`
    int remaining = -1;                       ///< words to load of window `loaded`, -1 where its load has not started
    std::vector<int> rows, columns;           ///< of each window's first neuron
    std::vector<int> begin, end;              ///< T19: where each window's patch lies in the group's stream of words
    std::vector<Slot> ring;
    std::vector<std::uint8_t>* status =
        nullptr;  ///< [row][column][lane][slot] from first_row on; its own where pools overlap
    Step step;
};

struct State {
    const Config& config;
    const Layer& layer;
    const PassPlan& plan;
    WeightStream& weights;
    Dram& dram;
    Counters& counters;
    Trace& trace;
    int stage;
    std::size_t pass;
    const Map& in;
    Map& out;
    std::vector<std::int64_t>& sums;
    std::vector<std::uint8_t>& claimed;  ///< [row][column][channel] neurons evaluated by some group
    std::int64_t& next_neuron;
    std::vector<Group> groups{};
    std::size_t ring_mask = 0;                          ///< places for windows, a power of two, less one
    int next_window = 0;                                ///< first window that no group has taken
    std::vector<std::vector<std::uint8_t>> statuses{};  ///< one for all groups, or one each
    std::vector<std::uint8_t> settled_bits{};           ///< [window of the stage][lane][slot]
    std::vector<Pe> pes{};

    /// T18: whether the operand comes beside the weights' bursts.
    bool streams_operand() const { return !plan.resident && layer.plan().single; }
    int per_position() const { return plan.lanes * plan.slots; }
    int ring_size() const { return config.depth + config.latency + 2; }
    std::size_t ring(int window) const { return static_cast<std::size_t>(window) & ring_mask; }
    int channel(const Pe& pe, int slot) const {
        return plan.channels[static_cast<std::size_t>(pe.lane * plan.slots + slot)];
    }
    int last_active(const Group& g) const { return std::min(g.oldest + config.depth, g.loaded); }
    std::uint8_t& status(Group& g, const Pe& pe, int row, int column, int slot) const {
        const int position = (row - g.first_row) * layer.plan().columns + column;
        return (*g.status)[static_cast<std::size_t>(position) * static_cast<std::size_t>(per_position()) +
                           static_cast<std::size_t>(pe.lane * plan.slots + slot)];
    }
    std::uint8_t& settled(const Group& g, const Pe& pe, int window, int slot) {
        return settled_bits[static_cast<std::size_t>(g.windows[static_cast<std::size_t>(window)]) *
                                static_cast<std::size_t>(per_position()) +
                            static_cast<std::size_t>(pe.lane * plan.slots + slot)];
    }
    /// Records an event of a neuron, where its cycle is traced.
    void record(Cycle now, Event kind, const Pe& pe, const Neuron& n, int value) const {
        if (!trace.on(now)) return;
        const int window = stage_window(groups[static_cast<std::size_t>(pe.group)], n.window);
        trace.add({now, kind, stage, pe.index, window, n.position, channel(pe, n.slot), value, n.id});
    }
    int stage_window(const Group& g, int window) const { return g.windows[static_cast<std::size_t>(window)]; }
    bool exhausted(const Group& g) const {
        return g.loaded == static_cast<int>(g.windows.size()) && next_window >= layer.plan().windows();
    }
    int window_row(const Group& g, int window) const { return g.rows[static_cast<std::size_t>(window)]; }
    int window_column(const Group& g, int window) const { return g.columns[static_cast<std::size_t>(window)]; }
};

/// Builds groups, PEs and scoreboards of a pass; nothing is loaded yet.
void prepare(State& state);
/// T5: gives a group the next strip; there must be one.
void take_strip(State& state, Group& g);
std::string describe(const State& state);

}  // namespace o3bnn::accel
