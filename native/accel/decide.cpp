#include "accel/units.hpp"

namespace o3bnn::accel {

bool Decide::operate(Pe& pe, Cycle now) {
    bool progress = false;
    while (!pe.pipe.empty() && pe.pipe.front().time <= now) {
        Neuron& n = pe.pool[static_cast<std::size_t>(pe.pipe.front().neuron)];
        pe.pipe.pop_front();
        progress = true;
        retire_neuron(pe, n);
        if (n.dead) continue;
        if (n.in_station) {
            release(pe, n);
            if (state_.config.lockstep) --state_.groups[static_cast<std::size_t>(pe.group)].step.running;
        }
        state_.record(now, Event::decide, pe, n, n.value.bit);
        account(pe, n);
        scoreboard_.known(pe, n, n.value.bit, now);
    }
    return progress;
}

void Decide::account(const Pe& pe, const Neuron& n) {
    Counters& c = state_.counters;
    const StagePlan& plan = state_.layer.plan();
    const int channel = state_.channel(pe, n.slot);
    c.overrun_words += n.issued - n.value.decided_at;
    c.wasted += state_.layer.edges_after(n.border, n.issued) - n.value.decided_edges;
    if (plan.output) {
        const std::int64_t score = n.value.scores[static_cast<std::size_t>(n.value.words)];
        state_.sums[static_cast<std::size_t>(channel)] = 2 * score - n.value.edges;
    }
    std::uint8_t& claimed =
        state_.claimed[static_cast<std::size_t>((n.row * plan.columns + n.column) * plan.channels + channel)];
    if (claimed) {  // T5: a neuron that two groups read
        c.halo_words += n.value.decided_at;
        c.wasted += n.value.decided_edges;
        return;
    }
    claimed = 1;
    ++c.neurons;
    c.useful_words += n.value.decided_at;
    c.channel_words[static_cast<std::size_t>(channel)] += n.value.decided_at;
    c.evaluated += n.value.decided_edges;
    (n.value.bit ? c.high : c.low) += n.value.edges - n.value.decided_edges;
}

}  // namespace o3bnn::accel
