#include "accel/units.hpp"

namespace o3bnn::accel {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

}  // namespace

Issue::Issue(State& state, Scoreboard& scoreboard)
    : state_(state),
      scoreboard_(scoreboard),
      stations_(at(state.config.stations)),
      single_use_(state.single_use()),
      can_seclude_(!state.config.lockstep && !state.layer.plan().overlaps() && state.trace.limit == 0) {}

// Inlined by force is what runs once a word, in two places each: it saves a tenth of all instructions.

bool Issue::operate(Pe& pe, Cycle now) {
    const Selection found = state_.weights_here ? select<true>(pe, now) : select<false>(pe, now);
    pe.issued = found.neuron != nullptr;
    state_.counters.station_cycles += static_cast<std::int64_t>(pe.stations.size());
    sleep_until_ = found.retry;
    if (found.neuron == nullptr) {
        pe.running = nullptr;
        pe.stall = reason(pe, found.starved);
        ++state_.counters.stalls[pe.stall];
        return false;
    }
    Neuron& n = *found.neuron;
    execute(pe, n, now);
    state_.record(now, Event::issue, pe, n, n.issued - 1);
    if (n.issued < n.value.words) return true;
    pe.running = nullptr;
    release(state_, pe, n);
    scoreboard_.moved(pe, n, kInPipe);
    return true;
}

/// The station to issue from. here: all weights of the pass are.
template <bool here>
[[gnu::always_inline]] inline Issue::Selection Issue::select(Pe& pe, Cycle now) const {
    Selection found;
    Neuron *after = nullptr, *waiting = nullptr;
    const bool round_robin = state_.config.round_robin;
    for (Neuron* const n : pe.stations) {
        if (!here && !arrived(pe, *n, n->issued)) {
            found.starved = true;
        } else if (n->speculative || n->ready_at > now) {
            if (waiting == nullptr) waiting = n;
            if (!n->speculative) found.retry = std::min(found.retry, n->ready_at);
        } else if (!round_robin) {
            found.neuron = n;
            return found;
        } else {
            if (found.neuron == nullptr) found.neuron = n;
            if (after == nullptr && n->id > pe.last_issued) after = n;
        }
    }
    if (after != nullptr) found.neuron = after;
    if (found.neuron == nullptr && state_.config.speculate) found.neuron = waiting;
    return found;
}

/// T24: whether the weights of a neuron's word are here.
bool Issue::arrived(const Pe& pe, const Neuron& n, int word) const {
    return state_.weights.arrived(state_.pass, pe.lane, n.place.slot, state_.layer.word_index(n.border, word));
}

[[gnu::always_inline]] inline void Issue::execute(Pe& pe, Neuron& n, Cycle now) {
    n.times[at(n.issued) % kIssueRing] = static_cast<std::uint32_t>(now);
    ++n.issued;
    n.update_ready(now, state_.config.latency);
    pe.last_issued = n.id;
    if (single_use_) state_.weights.issued(state_.pass, pe.index, pe.lane, n.place.slot);
    pe.running = &n;
    if (n.issued != n.value.decided_at) return;
    pe.pipe.push({now + state_.config.latency, &n});
    n.queued = true;
}

/// Why a PE issues nothing: the first that applies in the table of docs/timing.md.
Stall Issue::reason(Pe& pe, bool starved) {
    const Group& g = state_.group(pe);
    if (pe.channels == 0) return kUnmapped;
    if (starved) return kWeights;
    if (!pe.stations.empty()) return kDecision;
    if (state_.config.lockstep && g.step.running > 0) return kImbalance;
    const int last = state_.last_active(g);
    int left = 0;
    bool available = false;
    for (int w = g.oldest; w < last; ++w) {
        left += pe.left[state_.ring(w)];
        const Word* const bits = state_.available(pe, w);
        available |= std::any_of(bits, bits + state_.limbs, [](Word word) { return word != 0; });
    }
    if (left > 0) return available ? (state_.config.lockstep && !pe.pipe.empty() ? kDecision : kDispatch) : kDecision;
    const bool more = !state_.exhausted(g);
    if (more && g.loaded < g.oldest + state_.config.depth)
        return g.waits ? kImage : g.remaining < 0 && g.oldest < g.loaded ? kImbalance : kWindow;
    if (more || g.oldest + state_.config.depth < g.loaded) return kImbalance;
    return pe.pipe.empty() ? kDrain : kDecision;
}

/// Simulates a PE beyond cycle `now` while it is secluded, and returns when it has to be looked at again. turn: of its
/// dispatch in cycle `now`.
Cycle Issue::run_ahead(Pe& pe, Cycle now, Turn turn) {
    pe.since = now + 1;
    while (secluded(pe)) {
        turn = Turn::nothing;
        const Selection found = select<true>(pe, pe.since);
        const Cycle due = std::min(found.retry, pe.pipe.due());
        sleep_until_ = found.retry;
        if (found.neuron == nullptr) {
            pe.running = nullptr;
            pe.issued = false;
            pe.stall = kDecision;
            if (due == kNever) break;
            catch_up(state_, pe, due);
            continue;
        }
        if (found.neuron->issued + 1 == found.neuron->value.words) return pe.since;
        state_.counters.station_cycles += static_cast<std::int64_t>(pe.stations.size());
        pe.issued = true;
        execute(pe, *found.neuron, pe.since++);
        catch_up(state_, pe, std::min(due, pe.since + run_length(pe, *found.neuron)));
    }
    return next_event(pe, turn);
}

/// Whether nothing outside of a PE matters to its next cycle: no decision is due, its stations are full, so that it
/// dispatches nothing, and their weights are here. As long as no neuron issues its last word, nothing shows outside.
[[gnu::always_inline]] inline bool Issue::secluded(const Pe& pe) const {
    return state_.weights_here && can_seclude_ && pe.stations.size() == stations_ && pe.pipe.due() > pe.since;
}

/// First cycle not simulated yet in which anything but the next word of the running neuron, or the same stall, can
/// happen in a PE by itself. turn: of its last dispatch.
Cycle Issue::next_event(const Pe& pe, Turn turn) const {
    const Cycle next = pe.since;
    if (state_.trace.limit > 0 || turn != Turn::nothing) return next;
    Cycle event = std::min(sleep_until_, pe.pipe.due());
    if (pe.running != nullptr) event = std::min(event, next + run_length(pe, *pe.running));
    else if (pe.issued) return next;
    return std::max(event, next);
}

/// Cycles for which a neuron that has just issued goes on issuing, whatever else is in the PE's stations.
[[gnu::always_inline]] inline int Issue::run_length(const Pe& pe, const Neuron& n) const {
    const int last = std::min(n.value.back_to_back, n.value.decided_at - 1);
    if (last <= n.issued || n.speculative || (state_.config.round_robin && pe.stations.size() > 1)) return 0;
    const bool here =
        state_.weights_here ||
        (!state_.layer.plan().single && state_.weights.complete(state_.pass, pe.lane, n.place.slot));
    return here ? last - n.issued : 0;
}

}  // namespace o3bnn::accel
