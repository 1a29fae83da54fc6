#include "accel/state.hpp"

#include <stdexcept>

namespace o3bnn::accel {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

/// T19: positions of the windows' patches in the stream of words that the loader writes for a group.
void lay_out_patches(const State& state, Group& g) {
    int written = 0;
    for (int w = 0; w < g.count; ++w) {
        const int words = state.layer.patch_words(g.first + w);
        if (words > state.config.slot_words) throw std::invalid_argument("a window's patch does not fit in slot_words");
        written += words - (w > 0 ? state.layer.shared_words(g.first + w) : 0);
        g.begin.push_back(written - words);
        g.end.push_back(written);
    }
}

/// T4: marks constant neurons as known before the first cycle.
void mark_constants(const State& state, Group& g) {
    const StagePlan& plan = state.layer.plan();
    const int classes = static_cast<int>(plan.thresholds.size()) / plan.channels;
    std::vector<std::vector<std::uint8_t>> codes(at(classes));
    for (int border = 0; border < classes; ++border) {
        for (const int channel : state.plan.channels) {
            const int constant = channel < 0 ? -1 : state.layer.constant(border, channel);
            codes[at(border)].push_back(constant < 0 ? kUnvisited : constant ? kFired : kSilent);
        }
    }
    const int rows = static_cast<int>(g.status.size()) / (plan.columns * state.per_position());
    for (int y = 0; y < rows; ++y) {
        for (int x = 0; x < plan.columns; ++x) {
            const auto& code = codes[at(state.layer.border(g.first_row + y, x))];
            std::copy(code.begin(), code.end(), g.status.begin() + std::ptrdiff_t{y * plan.columns + x} * state.per_position());
        }
    }
}

Group make_group(const State& state, int index) {
    const StagePlan& plan = state.layer.plan();
    const int windows = plan.windows(), base = windows / state.plan.groups, extra = windows % state.plan.groups;
    Group g;
    g.index = index;
    g.first = index * base + std::min(index, extra);
    g.count = base + (index < extra ? 1 : 0);
    if (g.count == 0) return g;
    g.first_row = state.window_row(g, 0);
    const int rows = state.window_row(g, g.count - 1) + plan.pool.rows - g.first_row;
    g.status.assign(at(rows * plan.columns) * at(state.per_position()), kUnvisited);
    g.settled.assign(at(g.count) * at(state.per_position()), kOpen);
    g.ring.resize(at(state.ring_size()));
    if (state.config.prune) mark_constants(state, g);
    lay_out_patches(state, g);
    return g;
}

Pe make_pe(const State& state, int index) {
    Pe pe;
    pe.index = index;
    pe.group = index / state.plan.lanes;
    pe.lane = index % state.plan.lanes;
    while (pe.channels < state.plan.slots && state.channel(pe, pe.channels) >= 0) ++pe.channels;
    pe.pool.resize(at(state.config.stations + 2 * state.config.latency + 4));
    const std::size_t rings = at(state.ring_size()), limbs = at(state.plan.slots + 63) / 64;
    pe.available.assign(rings, std::vector<Word>(limbs, 0));
    pe.pending = pe.available;
    pe.vacated.assign(rings, std::vector<std::uint8_t>(at(state.plan.slots), 0));
    pe.left.assign(rings, 0);
    return pe;
}

}  // namespace

void prepare(State& state) {
    for (int g = 0; g < state.plan.groups; ++g) state.groups.push_back(make_group(state, g));
    for (int p = 0; p < state.plan.groups * state.plan.lanes; ++p) state.pes.push_back(make_pe(state, p));
}

std::string describe(const State& state) {
    std::string text = "stage " + std::to_string(state.stage) + ", pass " + std::to_string(state.pass) + "\n";
    for (const Group& g : state.groups) {
        text += "loader and scoreboard of group " + std::to_string(g.index) + ": windows " + std::to_string(g.count) + ", retired " +
                std::to_string(g.retired) + ", oldest " + std::to_string(g.oldest) + ", loaded " + std::to_string(g.loaded) +
                ", words to load " + std::to_string(g.remaining) + ", step (" + std::to_string(g.step.window) + ", " +
                std::to_string(g.step.position) + ", " + std::to_string(g.step.slot) + ") running " + std::to_string(g.step.running) + "\n";
    }
    for (const Pe& pe : state.pes) {
        text += "PE " + std::to_string(pe.index) + ": " + std::to_string(pe.stations.size()) + " stations busy, " +
                std::to_string(pe.pipe.size()) + " decisions to come";
        for (const int s : pe.stations) {
            const Neuron& n = pe.pool[at(s)];
            text += "; window " + std::to_string(n.window) + " position " + std::to_string(n.position) + " slot " +
                    std::to_string(n.slot) + " issued " + std::to_string(n.issued) + " of " + std::to_string(n.value.words);
        }
        text += "\n";
    }
    return text + state.weights.state() + "\n";
}

}  // namespace o3bnn::accel
