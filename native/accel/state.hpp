// What the units of one pass share: neurons in flight, PEs, groups and their windows.
#pragma once

#include <algorithm>
#include <bit>
#include <deque>
#include <limits>
#include <span>

#include "accel/layer.hpp"
#include "accel/weights.hpp"

namespace o3bnn::accel {

constexpr int kIssueRing = 16;  ///< issue times that a neuron remembers; no latency is longer
constexpr Cycle kNever = std::numeric_limits<Cycle>::max();

/// State of a neuron in its strip's scoreboard.
enum Status : std::uint8_t { kUnvisited, kInStation, kInPipe, kSilent, kFired };
/// State of an output bit of a window. `kElsewhere`: another group has the pair (T29).
enum Settled : std::uint8_t { kOpen, kZero, kOne, kElsewhere };
/// What the neuron map says of a neuron (T5): nothing, that a strip evaluates it, that its bit is known from the next
/// cycle on, or its bit.
enum Known : std::uint8_t { kUnknown, kInFlight, kDecidedNow, kKnownSilent, kKnownFired };

/// T5: windows that a group takes at once, and what the group knows of their neurons.
struct Strip {
    int first = 0, first_window = 0, count = 0;      ///< index in the group's order, window of the stage, how many
    std::vector<std::uint8_t> pairs;                 ///< T29: [lane][slot] where the group helps: which are its own
    int row = 0, rows = 0, column = 0, columns = 0;  ///< its neurons
    std::vector<std::uint8_t> status;                ///< [row][column][lane][slot]
};

/// A neuron of a group: the window for which it was dispatched, its place in the map, its channel slot.
struct Place {
    Strip* strip = nullptr;
    int window = 0, row = 0, column = 0, slot = 0;
};

/// A neuron in flight. What every look at it reads comes first, in one cache line.
struct alignas(64) Neuron {
    Cycle ready_at = 0;  ///< T8: first cycle in which its next word may issue
    std::int64_t id = 0;
    bool active = false, in_station = false, queued = false, dead = false, speculative = false;
    int issued = 0;
    Evaluation value;
    Place place;
    int border = 0, position = 0;
    std::array<std::uint32_t, kIssueRing> times{};  ///< cycles modulo 2^32 in which its last words issued

    /// T8: sets `ready_at` after an issue in cycle `now`.
    void update_ready(Cycle now, int latency) {
        ready_at = 0;
        if (issued < value.back_to_back) return;
        if (issued >= value.decided_at) {
            ready_at = kNever;
            return;
        }
        const int wait = value.waits[static_cast<std::size_t>(issued)];
        if (wait >= latency || wait == issued) return;
        const std::uint32_t known_at = times[static_cast<std::size_t>(issued - wait - 1) % kIssueRing];
        ready_at = now - (static_cast<std::uint32_t>(now) - known_at) + latency;
    }
};

struct Outcome {
    Cycle time = 0;
    Neuron* neuron = nullptr;
};

/// Decisions to come, the next one first. A ring: a PE has few at a time, never more than neurons in flight.
class Pipe {
  public:
    /// Empties the pipe, and makes room for the decisions of so many neurons.
    void clear(std::size_t neurons) {
        places_.resize(std::bit_ceil(neurons));
        first_ = end_ = 0;
    }
    bool empty() const { return first_ == end_; }
    std::size_t size() const { return end_ - first_; }
    const Outcome& front() const { return places_[first_ & (places_.size() - 1)]; }
    /// When the next decision comes.
    Cycle due() const { return empty() ? kNever : front().time; }
    void push(const Outcome& outcome) { places_[end_++ & (places_.size() - 1)] = outcome; }
    void pop() { ++first_; }

  private:
    std::vector<Outcome> places_;
    std::size_t first_ = 0, end_ = 0;
};

/// A processing element. While nothing but the next word of one neuron, or a stall, can happen in it, it sleeps: see
/// `State::wake`; the cycles since `since` are booked when it wakes. What every look at it reads comes first.
struct alignas(64) Pe {
    std::vector<Neuron*> stations;  ///< neurons that hold one, oldest first
    Cycle since = 0, bounds_until = 0;
    std::int64_t last_issued = -1;
    Neuron* running = nullptr;  ///< asleep: the neuron whose words issue
    Stall stall = kUnmapped;    ///< asleep: what it waits for otherwise
    bool issued = false;
    Pipe pipe;
    std::vector<Neuron*> idle;  ///< of the pool, those that hold none
    int index = 0, group = 0, lane = 0, channels = 0;
    std::vector<Word> available;  ///< [ring][slot bits]: pairs with a neuron to dispatch and none in flight
    std::vector<Word> pending;    ///< the same, with one in flight
    std::vector<int> left;        ///< [ring] pairs not vacated
    std::vector<Neuron> pool;
};

/// A window that is loaded and not retired.
struct Slot {
    Strip* strip = nullptr;
    int row = 0, column = 0, open = 0, busy = 0;
    int bits = 0;  ///< that the group writes of it, less those that it has given away
    const std::uint8_t* status = nullptr;  ///< in the strip, of its first neuron
    std::size_t row_step = 0;              ///< from there to the next row
    std::vector<std::uint8_t> settled, vacated;  ///< [lane][slot]
    Patch patch;
};

struct Step {
    int window = 0, position = 0, slot = -1;
    int running = 0, released = 0;  ///< PEs whose station is not released yet; those released in this cycle
};

struct Group {
    int index = 0;
    std::vector<int> windows;                 ///< of the stage, in the order in which the group takes them
    int oldest = 0, loaded = 0, retired = 0;  ///< indices into `windows`
    int remaining = -1;                       ///< words to load of window `loaded`, -1 where its load has not started
    std::vector<int> begin, end;              ///< T19: where each window's patch lies in the group's stream of words
    std::vector<Slot> ring;
    std::deque<Strip> strips;
    Step step;
    bool waits = false;  ///< T30: its next window reads what has not come yet
    int held = 0;        ///< patch words held since cycle `held_since`
    Cycle held_since = 0;
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
    const PackedMap& in;
    Map& out;
    std::vector<std::int64_t>& sums;
    std::vector<std::uint8_t>& known;  ///< [row][column][channel] `Known`: the neuron map
    std::int64_t& next_neuron;
    std::span<Pe> pes;  ///< those that have a part in the pass; before `prepare`, all
    std::vector<Group> groups{};
    bool weights_here = false;                       ///< all weights of the pass are in the banks, and stay there
    std::vector<std::uint8_t> attention{};           ///< [group] the loader has something to look at
    std::vector<std::uint8_t> settled_windows{};     ///< [group] some have settled since the last look of `Retire`
    std::vector<int> free{};                         ///< [PE] pairs with a neuron to dispatch and none in flight
    std::vector<Cycle> wake{};                       ///< [PE] first cycle in which it has to be looked at
    Cycle busy_until = 0;                            ///< some PE issues, or its bounds unit works, until then
    std::size_t ring_mask = 0;                       ///< places for windows, a power of two, less one
    std::size_t limbs = 0;                           ///< words that hold a bit a channel slot
    int next_window = 0;                             ///< first window that no group has taken
    std::int64_t here = std::numeric_limits<std::int64_t>::max();  ///< T30: elements of the operand that have come
    std::int64_t gone = 0;                           ///< T30: elements of the operand whose places others have taken
    int first_unretired = 0;                         ///< T30: first window that is not retired
    int taken = 0, retired = 0;                      ///< windows, one that a group helps with once more
    Scratch scratch{};
    std::vector<std::vector<std::uint8_t>> codes{};  ///< [border][lane * slot] status before the first cycle (T4)
    std::vector<std::pair<std::size_t, Known>> news{};  ///< of this cycle, for the neuron map

    /// T18: whether the operand comes beside the weights' bursts.
    bool streams_operand() const { return single_use(); }
    /// Whether the pass is a streamed single-use one, whose words leave their bank as they issue (T25).
    bool single_use() const { return !plan.resident && layer.plan().single; }
    std::size_t per_position() const { return static_cast<std::size_t>(plan.lanes * plan.slots); }
    int ring_size() const { return config.depth + config.latency + 2; }
    std::size_t ring(int window) const { return static_cast<std::size_t>(window) & ring_mask; }
    std::size_t pair(const Pe& pe, int slot) const { return static_cast<std::size_t>(pe.lane * plan.slots + slot); }
    int channel(const Pe& pe, int slot) const { return plan.channels[pair(pe, slot)]; }
    int last_active(const Group& g) const { return std::min(g.oldest + config.depth, g.loaded); }
    Group& group(const Pe& pe) { return groups[static_cast<std::size_t>(pe.group)]; }
    void call_loader(const Group& g) { attention[static_cast<std::size_t>(g.index)] = 1; }
    Pe* first_pe(const Group& g) const { return &pes[static_cast<std::size_t>(g.index * plan.lanes)]; }
    std::uint8_t& status(Strip& strip, const Pe& pe, int row, int column, int slot) const {
        const int position = (row - strip.row) * strip.columns + column - strip.column;
        return strip.status[static_cast<std::size_t>(position) * per_position() + pair(pe, slot)];
    }
    std::uint8_t& settled(Group& g, const Pe& pe, int window, int slot) const {
        return g.ring[ring(window)].settled[pair(pe, slot)];
    }
    std::size_t neuron(int row, int column, int channel) const {
        const auto position = static_cast<std::size_t>(row * layer.plan().columns + column);
        return position * static_cast<std::size_t>(layer.plan().channels) + static_cast<std::size_t>(channel);
    }
    /// T5: tells other strips of a neuron, from the next cycle on.
    void tell(const Pe& pe, const Place& place, Known what) {
        if (plan.shared()) news.emplace_back(neuron(place.row, place.column, channel(pe, place.slot)), what);
    }
    Word* available(Pe& pe, int window) const { return &pe.available[ring(window) * limbs]; }
    const Word* available(const Pe& pe, int window) const { return &pe.available[ring(window) * limbs]; }
    Word* pending(Pe& pe, int window) const { return &pe.pending[ring(window) * limbs]; }
    /// Records an event of a neuron, where its cycle is traced.
    void record(Cycle now, Event kind, const Pe& pe, const Neuron& n, int value) const {
        if (!trace.on(now)) return;
        const int window = stage_window(groups[static_cast<std::size_t>(pe.group)], n.place.window);
        trace.add({now, kind, stage, pe.index, window, n.position, channel(pe, n.place.slot), value, n.id});
    }
    int stage_window(const Group& g, int window) const { return g.windows[static_cast<std::size_t>(window)]; }
    bool exhausted(const Group& g) const {
        return g.loaded == static_cast<int>(g.windows.size()) && next_window >= layer.plan().windows();
    }
    /// The PEs of a group, or all, are looked at in the cycle after `now`.
    void wake_group(const Group& g, Cycle now) {
        const auto first = wake.begin() + std::ptrdiff_t{g.index} * plan.lanes;
        std::for_each(first, first + plan.lanes, [now](Cycle& c) { c = std::min(c, now + 1); });
    }
    void wake_lane(int lane, Cycle now) {
        for (std::size_t p = static_cast<std::size_t>(lane); p < wake.size(); p += static_cast<std::size_t>(plan.lanes))
            wake[p] = std::min(wake[p], now + 1);
    }
    void wake_all(Cycle now) {
        for (const Group& g : groups) wake_group(g, now);
    }
};

/// Builds groups, PEs and scoreboards of a pass that starts in cycle `now`; nothing is loaded yet.
void prepare(State& state, Cycle now);
/// T5: whether the rows of the next strip have a place beside those of the strips in work.
bool neuron_map_has_room(const State& state);
/// T5: gives a strip to a group, as its last one.
Strip& add_strip(State& state, Group& g, Strip strip);
/// T5: gives a group the next strip; there must be one.
void take_strip(State& state, Group& g);
/// Books `elapsed` cycles before `now` of a PE that was asleep.
void book(State& state, Pe& pe, Cycle now, Cycle elapsed);
inline void catch_up(State& state, Pe& pe, Cycle now) {
    if (pe.since < now) book(state, pe, now, now - pe.since);
}
std::string describe(const State& state);

}  // namespace o3bnn::accel
