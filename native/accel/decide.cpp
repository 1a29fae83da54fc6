#include "accel/units.hpp"

namespace o3bnn::accel {

void Decide::take(Pe& pe, Cycle now) {
    do {
        Neuron& n = *pe.pipe.front().neuron;
        pe.pipe.pop();
        retire_neuron(pe, n);
        if (n.dead) continue;
        if (n.in_station) release(state_, pe, n);
        state_.record(now, Event::decide, pe, n, n.value.bit);
        account(pe, n);
        scoreboard_.known(pe, n.place, n.value.bit, now);
    } while (pe.pipe.due() <= now);
}

void Decide::account(const Pe& pe, const Neuron& n) {
    Counters& c = state_.counters;
    const StagePlan& plan = state_.layer.plan();
    const int channel = state_.channel(pe, n.place.slot);
    if (n.issued > n.value.decided_at) {
        c.overrun_words += n.issued - n.value.decided_at;
        c.wasted += state_.layer.edges_after(n.border, n.issued) - n.value.decided_edges;
    }
    if (plan.output) {
        const auto sum = static_cast<std::size_t>(n.place.row * plan.channels + channel);
        state_.sums[sum] = 2 * n.value.score - n.value.edges;
    }
    const std::size_t index = state_.neuron(n.place.row, n.place.column, channel);
    if (state_.known[index] >= kDecidedNow) {  // T5: a neuron that another strip has evaluated meanwhile
        c.halo_words += n.value.decided_at;
        c.wasted += n.value.decided_edges;
        return;
    }
    state_.known[index] = kDecidedNow;
    state_.tell(pe, n.place, n.value.bit ? kKnownFired : kKnownSilent);
    ++c.neurons;
    c.useful_words += n.value.decided_at;
    c.channel_words[static_cast<std::size_t>(channel)] += n.value.decided_at;
    c.evaluated += n.value.decided_edges;
    (n.value.bit ? c.high : c.low) += n.value.edges - n.value.decided_edges;
}

}  // namespace o3bnn::accel
