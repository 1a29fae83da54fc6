#include <bit>

#include "accel/units.hpp"

namespace o3bnn::accel {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

int first_set(const std::vector<Word>& bits) {
    for (std::size_t limb = 0; limb < bits.size(); ++limb)
        if (bits[limb] != 0) return static_cast<int>(limb) * 64 + std::countr_zero(bits[limb]);
    return -1;
}

}  // namespace

bool Dispatch::operate(Pe& pe, Cycle now) {
    if (now < pe.bounds_until) return true;  // the bounds unit is at work
    if (static_cast<int>(pe.stations.size()) >= state_.config.stations) return false;
    Group& g = state_.groups[at(pe.group)];
    const int last = state_.last_active(g);
    for (int w = g.oldest; w < last; ++w) {
        const int slot = first_set(pe.available[state_.ring(w)]);
        if (slot >= 0) return start_next(pe, g, w, slot, false, now);
    }
    if (!state_.config.speculate || pe.issued) return false;
    for (int w = g.oldest; w < last; ++w) {
        const int slot = first_set(pe.pending[state_.ring(w)]);
        if (slot >= 0) return start_next(pe, g, w, slot, true, now);
    }
    return false;
}

/// Dispatches the first unvisited neuron of a pair that has one.
bool Dispatch::start_next(Pe& pe, Group& g, int window, int slot, bool speculative, Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    const int row = state_.window_row(g, window), column = state_.window_column(g, window);
    int position = 0;
    while (state_.status(g, pe, row + position / plan.pool.columns, column + position % plan.pool.columns, slot) !=
           kUnvisited)
        ++position;
    start(pe, g, window, position, slot, speculative, now);
    return true;
}

/// Returns whether the neuron took a station.
bool Dispatch::start(Pe& pe, Group& g, int window, int position, int slot, bool speculative, Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    Neuron& n = pe.pool[at(pe.idle.back())];
    pe.idle.pop_back();
    n.active = true;
    n.queued = n.dead = false;
    n.speculative = speculative;
    n.window = window;
    n.position = position;
    n.row = state_.window_row(g, window) + position / plan.pool.columns;
    n.column = state_.window_column(g, window) + position % plan.pool.columns;
    n.border = state_.layer.border(n.row, n.column);
    n.slot = slot;
    n.issued = n.known = 0;
    n.id = state_.next_neuron++;
    state_.layer.evaluate(g.ring[state_.ring(window)].patch, position, state_.channel(pe, slot), n.value);
    state_.record(now, Event::dispatch, pe, n, speculative);
    if (state_.config.prune && state_.config.sharp && !plan.output)
        pe.bounds_until = now + (n.value.words + state_.config.bounds_words - 1) / state_.config.bounds_words;
    const int index = static_cast<int>(&n - pe.pool.data());
    n.in_station = n.value.decided_at > 0;
    if (n.in_station) {
        pe.stations.push_back(index);
        scoreboard_.moved(pe, n, kInStation);
    } else {
        pe.pipe.push_back({now + state_.config.latency, index});
        n.queued = true;
        scoreboard_.moved(pe, n, kInPipe);
    }
    return n.in_station;
}

bool Dispatch::advance(Step& step, int positions, int slots) {
    if (++step.slot < slots) return false;
    step.slot = 0;
    if (++step.position < positions) return false;
    step.position = 0;
    ++step.window;
    return true;
}

/// T16: goes on to the next step that has work, once the last one has ended everywhere.
bool Dispatch::operate(Group& g, Cycle now) {
    Pe* const first = &state_.pes[at(g.index * state_.plan.lanes)];
    if (g.step.running > 0) return false;
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe)
        if (now < pe->bounds_until) return true;
    advance_oldest(state_, g);
    Step next = g.step;
    if (next.slot < 0) next.slot = 0;
    while (next.window < state_.last_active(g)) {
        g.step = next;
        switch (start_step(g, now)) {
            case StepResult::waits:
                return false;
            case StepResult::started:
                advance(g.step, state_.layer.plan().positions(), state_.plan.slots);
                return true;
            case StepResult::empty:
                break;
        }
        advance(next, state_.layer.plan().positions(), state_.plan.slots);
        if (next.window >= g.oldest + state_.config.depth) break;
    }
    const bool moved = next.window != g.step.window || next.position != g.step.position || next.slot != g.step.slot;
    g.step.window = next.window, g.step.position = next.position, g.step.slot = next.slot;
    return moved;
}

/// Dispatches the neurons of the step at hand.
Dispatch::StepResult Dispatch::start_step(Group& g, Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    const Step step = g.step;
    Pe* const first = &state_.pes[at(g.index * state_.plan.lanes)];
    const int row = state_.window_row(g, step.window) + step.position / plan.pool.columns;
    const int column = state_.window_column(g, step.window) + step.position % plan.pool.columns;
    const auto has_work = [&](const Pe& pe) {
        return step.slot < pe.channels && state_.settled(g, pe, step.window, step.slot) == kOpen &&
               state_.status(g, pe, row, column, step.slot) == kUnvisited;
    };
    bool any = false;
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe) {
        if (!has_work(*pe)) continue;
        any = true;
        const Word bit = Word{1} << (step.slot % 64);
        const bool in_flight = (pe->pending[state_.ring(step.window)][at(step.slot / 64)] & bit) != 0;
        if (in_flight && state_.config.prune && !plan.output) return StepResult::waits;
    }
    if (!any) return StepResult::empty;
    int running = 0;
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe)
        if (has_work(*pe)) running += start(*pe, g, step.window, step.position, step.slot, false, now) ? 1 : 0;
    g.step.running = running;
    return StepResult::started;
}

}  // namespace o3bnn::accel
