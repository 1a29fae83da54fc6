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
    const StagePlan& plan = state.layer.plan();
    g.windows.push_back(window);
    g.rows.push_back(window / plan.out_columns() * plan.pool_stride.rows);
    g.columns.push_back(window % plan.out_columns() * plan.pool_stride.columns);
    g.end.push_back((g.end.empty() ? 0 : g.end.back()) + words - shared);
    g.begin.push_back(g.end.back() - words);
}

/// T4: marks constant neurons as known before the first cycle.
void mark_constants(const State& state, int first_row, std::vector<std::uint8_t>& status) {
    const StagePlan& plan = state.layer.plan();
    const int classes = static_cast<int>(plan.thresholds.size()) / plan.channels;
    std::vector<std::vector<std::uint8_t>> codes(at(classes));
    for (int border = 0; border < classes; ++border) {
        for (const int channel : state.plan.channels) {
            const int constant = channel < 0 ? -1 : state.layer.constant(border, channel);
            codes[at(border)].push_back(constant < 0 ? kUnvisited : constant ? kFired : kSilent);
        }
    }
    const int rows = static_cast<int>(status.size() / at(plan.columns * state.per_position()));
    for (int y = 0; y < rows; ++y) {
        for (int x = 0; x < plan.columns; ++x) {
            const auto& code = codes[at(state.layer.border(first_row + y, x))];
            std::copy(code.begin(), code.end(),
                      status.begin() + std::ptrdiff_t{y * plan.columns + x} * state.per_position());
        }
    }
}

std::vector<std::uint8_t> make_status(const State& state, int first_row, int rows) {
    std::vector<std::uint8_t> status(at(rows * state.layer.plan().columns) * at(state.per_position()), kUnvisited);
    if (state.config.prune) mark_constants(state, first_row, status);
    return status;
}

/// T5: the contiguous chunk of a group where pools overlap.
void take_chunk(State& state, Group& g) {
    const StagePlan& plan = state.layer.plan();
    const int windows = plan.windows(), base = windows / state.plan.groups, extra = windows % state.plan.groups;
    const int first = g.index * base + std::min(g.index, extra), count = base + (g.index < extra ? 1 : 0);
    for (int w = first; w < first + count; ++w) append_window(state, g, w, w == first);
    state.next_window = first + count;
    if (count == 0) return;
    g.first_row = state.window_row(g, 0);
    state.statuses.push_back(
        make_status(state, g.first_row, state.window_row(g, count - 1) + plan.pool.rows - g.first_row));
}

Pe make_pe(const State& state, int index) {
    Pe pe;
    pe.index = index;
    pe.group = index / state.plan.lanes;
    pe.lane = index % state.plan.lanes;
    while (pe.channels < state.plan.slots && state.channel(pe, pe.channels) >= 0) ++pe.channels;
    pe.pool.resize(at(state.config.stations + 2 * state.config.latency + 4));
    for (int i = static_cast<int>(pe.pool.size()) - 1; i >= 0; --i) pe.idle.push_back(i);
    const std::size_t rings = state.ring_mask + 1, limbs = at(state.plan.slots + 63) / 64;
    pe.available.assign(rings, std::vector<Word>(limbs, 0));
    pe.pending = pe.available;
    pe.vacated.assign(rings, std::vector<std::uint8_t>(at(state.plan.slots), 0));
    pe.left.assign(rings, 0);
    return pe;
}

}  // namespace

void take_strip(State& state, Group& g) {
    const int columns = state.layer.plan().out_columns(), first = state.next_window;
    const int row_end = (first / columns + 1) * columns;
    const int place = first % columns;
    const int last = std::min(row_end, first + state.plan.strip - place % state.plan.strip);
    for (int w = first; w < last; ++w) append_window(state, g, w, w == first);
    state.next_window = last;
}

void prepare(State& state) {
    const StagePlan& plan = state.layer.plan();
    state.settled_bits.assign(at(plan.windows()) * at(state.per_position()), kOpen);
    state.ring_mask = std::bit_ceil(at(state.ring_size())) - 1;
    state.groups.resize(at(state.plan.groups));
    state.statuses.reserve(state.groups.size());
    if (state.plan.strip > 0) state.statuses.push_back(make_status(state, 0, plan.rows));
    for (Group& g : state.groups) {
        g.index = static_cast<int>(&g - state.groups.data());
        g.ring.resize(state.ring_mask + 1);
        if (state.plan.strip == 0) take_chunk(state, g);
        g.status = state.statuses.empty() ? nullptr : &state.statuses.back();
    }
    for (int p = 0; p < state.plan.groups * state.plan.lanes; ++p) state.pes.push_back(make_pe(state, p));
}

std::string describe(const State& state) {
    std::string text = "stage " + std::to_string(state.stage) + ", pass " + std::to_string(state.pass) + "\n";
    for (const Group& g : state.groups) {
        text += "loader and scoreboard of group " + std::to_string(g.index) + ": windows " +
                std::to_string(g.windows.size()) + ", retired " + std::to_string(g.retired) + ", oldest " +
                std::to_string(g.oldest) + ", loaded " + std::to_string(g.loaded) + ", words to load " +
                std::to_string(g.remaining) + ", step (" + std::to_string(g.step.window) + ", " +
                std::to_string(g.step.position) + ", " + std::to_string(g.step.slot) + ") running " +
                std::to_string(g.step.running) + "\n";
    }
    for (const Pe& pe : state.pes) {
        text += "PE " + std::to_string(pe.index) + ": " + std::to_string(pe.stations.size()) + " stations busy, " +
                std::to_string(pe.pipe.size()) + " decisions to come";
        for (const int s : pe.stations) {
            const Neuron& n = pe.pool[at(s)];
            text += "; window " + std::to_string(n.window) + " position " + std::to_string(n.position) + " slot " +
                    std::to_string(n.slot) + " issued " + std::to_string(n.issued) + " of " +
                    std::to_string(n.value.words);
        }
        text += "\n";
    }
    return text + state.weights.state() + "\n";
}

}  // namespace o3bnn::accel
