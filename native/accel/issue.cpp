#include "accel/units.hpp"

namespace o3bnn::accel {

bool Issue::operate(Pe& pe, Cycle now) {
    bool starved = false;
    Neuron* const chosen = select(pe, now, starved);
    pe.issued = chosen != nullptr;
    state_.counters.station_cycles += static_cast<std::int64_t>(pe.stations.size());
    if (chosen == nullptr) {
        ++state_.counters.stalls[static_cast<std::size_t>(reason(pe, starved))];
        return false;
    }
    execute(pe, *chosen, now);
    return true;
}

/// The station to issue from; `starved` where one lacks its weights.
Neuron* Issue::select(Pe& pe, Cycle now, bool& starved) {
    Neuron *best = nullptr, *after = nullptr, *waiting = nullptr;
    for (const int s : pe.stations) {
        Neuron& n = pe.pool[static_cast<std::size_t>(s)];
        if (!state_.plan.resident &&
            !state_.weights.arrived(state_.pass, pe.lane, n.slot, state_.layer.word_index(n.border, n.issued))) {
            starved = true;
            continue;
        }
        if (!n.speculative && ready(n, now)) {
            if (best == nullptr) best = &n;
            if (after == nullptr && n.id > pe.last_issued) after = &n;
            if (!state_.config.round_robin) break;
        } else if (waiting == nullptr) {
            waiting = &n;
        }
    }
    if (state_.config.round_robin && after != nullptr) return after;
    if (best != nullptr) return best;
    return state_.config.speculate ? waiting : nullptr;
}

bool Issue::ready(Neuron& n, Cycle now) const {
    const auto age = [&] {
        return static_cast<std::uint32_t>(now) - n.times[static_cast<std::size_t>(n.known % kIssueRing)];
    };
    while (n.known < n.issued && age() >= static_cast<std::uint32_t>(state_.config.latency)) ++n.known;
    if (n.known == n.issued || !state_.config.prune || state_.layer.plan().output) return true;
    return n.issued <= n.value.decided_at && !n.value.may_decide(n.known, n.issued);
}

void Issue::execute(Pe& pe, Neuron& n, Cycle now) {
    n.times[static_cast<std::size_t>(n.issued % kIssueRing)] = static_cast<std::uint32_t>(now);
    ++n.issued;
    pe.last_issued = n.id;
    state_.weights.issued(state_.pass, pe.index, pe.lane, n.slot);
    state_.record(now, Event::issue, pe, n, n.issued - 1);
    if (n.issued == n.value.decided_at) {
        pe.pipe.push_back({now + state_.config.latency, static_cast<int>(&n - pe.pool.data())});
        n.queued = true;
    }
    if (n.issued < n.value.words) return;
    release(pe, n);
    if (state_.config.lockstep) --state_.groups[static_cast<std::size_t>(pe.group)].step.running;
    scoreboard_.moved(pe, n, kInPipe);
}

/// Why a PE issues nothing: the first that applies in the table of docs/timing.md.
Stall Issue::reason(const Pe& pe, bool starved) const {
    const Group& g = state_.groups[static_cast<std::size_t>(pe.group)];
    if (pe.channels == 0) return kUnmapped;
    if (starved) return kWeights;
    if (!pe.stations.empty()) return kDecision;
    if (state_.config.lockstep && g.step.running > 0) return kImbalance;
    const int last = state_.last_active(g);
    int left = 0;
    bool available = false;
    for (int w = g.oldest; w < last; ++w) {
        left += pe.left[state_.ring(w)];
        for (const Word bits : pe.available[state_.ring(w)]) available |= bits != 0;
    }
    if (left > 0) return available ? (state_.config.lockstep && !pe.pipe.empty() ? kDecision : kDispatch) : kDecision;
    const bool more = !state_.exhausted(g);
    if (more && g.loaded < g.oldest + state_.config.depth)
        return g.remaining < 0 && g.oldest < g.loaded ? kImbalance : kWindow;
    if (more || g.oldest + state_.config.depth < g.loaded) return kImbalance;
    return pe.pipe.empty() ? kDrain : kDecision;
}

}  // namespace o3bnn::accel
