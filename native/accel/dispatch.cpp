#include <bit>

#include "accel/units.hpp"

namespace o3bnn::accel {
namespace {

/// Visits the set bits in order, until visit(bit) returns true.
template <class Visit>
void visit_set(const Word* bits, std::size_t limbs, Visit visit) {
    for (std::size_t limb = 0; limb < limbs; ++limb)
        for (Word left = bits[limb]; left != 0; left &= left - 1)
            if (visit(static_cast<int>(limb) * 64 + std::countr_zero(left))) return;
}

}  // namespace

Turn Dispatch::dispatch(Pe& pe, Cycle now) {
    const Turn turn = dispatch_from(pe, &Pe::available, false, now);
    if (turn == Turn::dispatched || !state_.config.speculate || pe.issued) return turn;
    return std::max(turn, dispatch_from(pe, &Pe::pending, true, now));
}

/// Dispatches a neuron of the first pair among `pairs` for which that is possible.
Turn Dispatch::dispatch_from(Pe& pe, std::vector<Word> Pe::* pairs, bool speculative, Cycle now) {
    Group& g = state_.group(pe);
    const int last = state_.last_active(g);
    Turn turn = Turn::nothing;
    for (int w = g.oldest; w < last && turn != Turn::dispatched; ++w) {
        visit_set(&(pe.*pairs)[state_.ring(w) * state_.limbs], state_.limbs, [&](int slot) {
            turn = start_next(pe, g, w, slot, speculative, now) ? Turn::dispatched : Turn::blocked;
            return turn == Turn::dispatched;
        });
    }
    return turn;
}

/// Dispatches the first unvisited neuron of a pair that has one, or takes its bit over; false where another strip
/// evaluates it (T5).
bool Dispatch::start_next(Pe& pe, Group& g, int window, int slot, bool speculative, Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    Slot& ring = g.ring[state_.ring(window)];
    Place place{ring.strip, window, ring.row, ring.column, slot};
    int position = 0;
    while (state_.status(*ring.strip, pe, place.row, place.column, slot) != kUnvisited) {
        ++position;
        place.row = ring.row + position / plan.pool.columns;
        place.column = ring.column + position % plan.pool.columns;
    }
    if (scoreboard_.in_flight_elsewhere(pe, place)) return false;
    if (!scoreboard_.take_over(pe, place, now)) start(pe, place, position, speculative, now);
    return true;
}

/// Returns whether the neuron took a station.
bool Dispatch::start(Pe& pe, const Place& place, int position, bool speculative, Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    Neuron& n = *pe.idle.back();
    pe.idle.pop_back();
    n.place = place;
    n.active = true;
    n.queued = n.dead = false;
    n.speculative = speculative;
    n.position = position;
    n.issued = 0;
    n.ready_at = 0;
    n.id = state_.next_neuron++;
    const Slot& ring = state_.group(pe).ring[state_.ring(place.window)];
    n.border = ring.patch.classes[static_cast<std::size_t>(position)];
    state_.layer.evaluate(ring.patch, position, state_.channel(pe, place.slot), state_.scratch, n.value);
    state_.record(now, Event::dispatch, pe, n, speculative);
    state_.tell(pe, place, kInFlight);
    if (state_.config.prune && state_.config.sharp && !plan.output)
        pe.bounds_until = now + (n.value.words + state_.config.bounds_words - 1) / state_.config.bounds_words;
    n.in_station = n.value.decided_at > 0;
    if (n.in_station) {
        pe.stations.push_back(&n);
        scoreboard_.moved(pe, n, kInStation);
    } else {
        pe.pipe.push({now + state_.config.latency, &n});
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
    Pe* const first = state_.first_pe(g);
    const bool ended = g.step.running > 0 && g.step.running == g.step.released;
    g.step.running -= g.step.released;
    g.step.released = 0;
    if (g.step.running > 0) return false;
    if (ended) state_.wake_group(g, now);
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe) {
        if (now >= pe->bounds_until) continue;
        state_.busy_until = std::max(state_.busy_until, pe->bounds_until);
        return true;
    }
    if (advance_oldest(state_, g)) state_.wake_group(g, now);
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

bool Dispatch::has_work(Group& g, const Pe& pe, const Place& place) {
    return place.slot < pe.channels && state_.settled(g, pe, place.window, place.slot) == kOpen &&
           state_.status(*place.strip, pe, place.row, place.column, place.slot) == kUnvisited;
}

/// Dispatches the neurons of the step at hand.
Dispatch::StepResult Dispatch::start_step(Group& g, Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    const Step step = g.step;
    const Slot& ring = g.ring[state_.ring(step.window)];
    const Place place{ring.strip, step.window, ring.row + step.position / plan.pool.columns,
                      ring.column + step.position % plan.pool.columns, step.slot};
    Pe* const first = state_.first_pe(g);
    bool any = false;
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe) {
        if (!has_work(g, *pe, place)) continue;
        if (scoreboard_.take_over(*pe, place, now)) {  // it may have been the PE's last pair
            Cycle& wake = state_.wake[static_cast<std::size_t>(pe->index)];
            wake = std::min(wake, now + 1);
            continue;
        }
        any = true;
        const Word bit = Word{1} << (step.slot % 64);
        const bool in_flight = (state_.pending(*pe, step.window)[step.slot / 64] & bit) != 0;
        if (in_flight && state_.config.prune && !plan.output) return StepResult::waits;
    }
    if (!any) return StepResult::empty;
    int running = 0;
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe) {
        if (!has_work(g, *pe, place)) continue;
        catch_up(state_, *pe, now + 1);
        running += start(*pe, place, step.position, false, now) ? 1 : 0;
    }
    g.step.running = running;
    state_.wake_group(g, now);
    return StepResult::started;
}

}  // namespace o3bnn::accel
