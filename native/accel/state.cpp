#include "accel/state.hpp"

#include <bit>
#include <stdexcept>

namespace o3bnn::accel {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

/// T19: where a window's patch lies in the stream of words that the loader writes for its group.
void append_window(const State& state, Group& g, int window, bool first) {
    const int words = state.streams_operand() ? 0 : state.layer.patch_words(window);
    if (words > state.config.slot_words) throw std::invalid_argument("a window's patch does not fit in slot_words");
    const int shared = first || words == 0 ? 0 : state.layer.shared_words(window);
    g.windows.push_back(window);
    g.end.push_back((g.end.empty() ? 0 : g.end.back()) + words - shared);
    g.begin.push_back(g.end.back() - words);
}

/// T4: what is known of every channel's neurons before the first cycle, for each border class.
std::vector<std::vector<std::uint8_t>> initial_codes(const State& state) {
    const StagePlan& plan = state.layer.plan();
    std::vector<std::vector<std::uint8_t>> codes(plan.thresholds.size() / at(plan.channels));
    for (std::size_t border = 0; border < codes.size(); ++border) {
        for (const int channel : state.plan.channels) {
            const bool varies = channel < 0 || !state.config.prune;
            const int constant = varies ? -1 : state.layer.constant(static_cast<int>(border), channel);
            codes[border].push_back(constant < 0 ? kUnvisited : constant ? kFired : kSilent);
        }
    }
    return codes;
}

void fill_status(const State& state, Strip& strip) {
    strip.status.resize(at(strip.rows * strip.columns) * state.per_position());
    auto place = strip.status.begin();
    for (int y = strip.row; y < strip.row + strip.rows; ++y) {
        for (int x = strip.column; x < strip.column + strip.columns; ++x) {
            const auto& code = state.codes[at(state.layer.border(y, x))];
            place = std::copy(code.begin(), code.end(), place);
        }
    }
}

/// T5: the strip that the next group takes.
Strip next_strip(const State& state) {
    const StagePlan& plan = state.layer.plan();
    const int columns = plan.out_columns(), length = state.plan.strip;
    Strip strip;
    const int first = strip.first_window = state.next_window;
    const int row_end = (first / columns + 1) * columns;
    strip.count = length > columns ? std::min(length, plan.windows() - first)
                                   : std::min(row_end, first + length - first % columns % length) - first;
    const int last = first + strip.count - 1;
    strip.row = state.layer.window_row(first);
    strip.rows = state.layer.window_row(last) + plan.pool.rows - strip.row;
    strip.column = last < row_end ? state.layer.window_column(first) : 0;
    strip.columns = last < row_end ? state.layer.window_column(last) + plan.pool.columns - strip.column : plan.columns;
    return strip;
}

/// Makes a PE ready for a pass that starts in cycle `now`. Its last pass may have left squashed neurons in the pipe.
void reset(const State& state, Pe& pe, int index, Cycle now) {
    pe.index = index;
    pe.group = index / state.plan.lanes;
    pe.lane = index % state.plan.lanes;
    pe.channels = 0;
    while (pe.channels < state.plan.slots && state.channel(pe, pe.channels) >= 0) ++pe.channels;
    pe.pool.resize(at(state.config.stations + 2 * state.config.latency + 4));
    for (Neuron& n : pe.pool) n.active = false;
    pe.stations.clear();
    pe.pipe.clear(pe.pool.size());
    pe.idle.clear();
    for (auto n = pe.pool.rbegin(); n != pe.pool.rend(); ++n) pe.idle.push_back(&*n);
    const std::size_t rings = state.ring_mask + 1;
    pe.available.assign(rings * state.limbs, 0);
    pe.pending.assign(rings * state.limbs, 0);
    pe.left.assign(rings, 0);
    pe.bounds_until = 0;
    pe.since = now;
    pe.last_issued = -1;
    pe.issued = false;
    pe.running = nullptr;
    pe.stall = kUnmapped;
}

}  // namespace

bool neuron_map_has_room(const State& state) {
    if (!state.plan.shared()) return true;
    const Strip next = next_strip(state);
    int oldest = next.row;
    for (const Group& g : state.groups)
        if (!g.strips.empty()) oldest = std::min(oldest, g.strips.front().row);
    return next.row + next.rows - oldest <= state.plan.neuron_map_rows;
}

Strip& add_strip(State& state, Group& g, Strip strip) {
    strip.first = static_cast<int>(g.windows.size());
    fill_status(state, strip);
    const int first = strip.first_window, last = first + strip.count - 1;
    for (int w = first; w <= last; ++w) append_window(state, g, w, w == first);
    state.taken += strip.count;
    g.strips.push_back(std::move(strip));
    return g.strips.back();
}

void take_strip(State& state, Group& g) {
    const Strip& strip = add_strip(state, g, next_strip(state));
    state.next_window = strip.first_window + strip.count;
}

void prepare(State& state, Cycle now) {
    state.ring_mask = std::bit_ceil(at(state.ring_size())) - 1;
    state.limbs = at(state.plan.slots + 63) / 64;
    state.codes = initial_codes(state);
    state.groups.resize(at(state.plan.groups));
    state.attention.assign(state.groups.size(), 1);
    state.settled_windows.assign(state.groups.size(), 0);
    for (Group& g : state.groups) {
        g.index = static_cast<int>(&g - state.groups.data());
        g.ring.resize(state.ring_mask + 1);
        g.held_since = now;
    }
    const int pes = state.plan.groups * state.plan.lanes;
    state.pes = state.pes.first(at(pes));
    for (int p = 0; p < pes; ++p) reset(state, state.pes[at(p)], p, now);
    state.wake.assign(at(pes), now);
    state.free.assign(at(pes), 0);
    state.weights_here = state.weights.all_here(state.pass);
}

void book(State& state, Pe& pe, Cycle now, Cycle elapsed) {
    state.counters.station_cycles += elapsed * static_cast<std::int64_t>(pe.stations.size());
    if (pe.running == nullptr) {
        state.counters.stalls[pe.stall] += elapsed;
    } else {
        Neuron& n = *pe.running;
        n.issued += static_cast<int>(elapsed);
        for (int back = 1; back <= std::min<Cycle>(elapsed, state.config.latency); ++back)
            n.times[at((n.issued - back) % kIssueRing)] = static_cast<std::uint32_t>(now - back);
        n.update_ready(now - 1, state.config.latency);
    }
    pe.since = now;
}

std::string describe(const State& state) {
    std::string text = "stage " + std::to_string(state.stage) + ", pass " + std::to_string(state.pass) +
                       ": next window " + std::to_string(state.next_window) + ", windows taken " +
                       std::to_string(state.taken) + ", retired " + std::to_string(state.retired) + "\n";
    if (state.layer.plan().image_places > 0)
        text += "image: " + std::to_string(state.here) + " of " + std::to_string(state.layer.elements()) +
                " elements here, first window not retired " + std::to_string(state.first_unretired) + "\n";
    for (const Group& g : state.groups) {
        text += "loader and scoreboard of group " + std::to_string(g.index) + ": windows " +
                std::to_string(g.windows.size()) + ", retired " + std::to_string(g.retired) + ", oldest " +
                std::to_string(g.oldest) + ", loaded " + std::to_string(g.loaded) + ", words to load " +
                std::to_string(g.remaining) + (g.waits ? ", waits for the image" : "") + ", step (" +
                std::to_string(g.step.window) + ", " +
                std::to_string(g.step.position) + ", " + std::to_string(g.step.slot) + ") running " +
                std::to_string(g.step.running) + "\n";
    }
    for (const Pe& pe : state.pes) {
        text += "PE " + std::to_string(pe.index) + ": " + std::to_string(pe.stations.size()) + " stations busy, " +
                std::to_string(pe.pipe.size()) + " decisions to come";
        for (const Neuron* const n : pe.stations) {
            text += "; window " + std::to_string(n->place.window) + " position " + std::to_string(n->position) +
                    " slot " + std::to_string(n->place.slot) + " issued " + std::to_string(n->issued) + " of " +
                    std::to_string(n->value.words);
        }
        text += "\n";
    }
    return text + state.weights.state() + "\n";
}

}  // namespace o3bnn::accel
