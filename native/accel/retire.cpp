#include "accel/units.hpp"

namespace o3bnn::accel {

bool Retire::operate(Cycle now) {
    bool progress = false;
    for (Group& g : state_.groups) {
        if (!g.settled) continue;
        g.settled = retire(g, now);
        progress |= g.settled;
    }
    return progress;
}

/// Retires the group's first window if it is settled.
bool Retire::retire(Group& g, Cycle now) {
    if (g.retired == g.loaded || g.ring[state_.ring(g.retired)].open > 0) return false;
    const auto& channels = state_.plan.channels;
    const std::int64_t bits = std::count_if(channels.begin(), channels.end(), [](int c) { return c >= 0; });
    state_.counters.map_write_bits += bits;
    ++state_.counters.windows;
    if (state_.layer.plan().spilled_out) {
        state_.dram.take(bits);
        state_.counters.dram_map_bits += bits;
    }
    if (state_.trace.on(now))
        state_.trace.add({now, Event::retire, state_.stage, g.index, state_.stage_window(g, g.retired), 0, -1, 0, -1});
    ++g.retired;
    ++state_.retired;
    g.attention = true;
    if (g.strips.front().first + g.strips.front().count > g.retired) return true;
    g.strips.pop_front();
    if (state_.plan.shared())  // what waits for its place in the neuron map may have it now
        for (Group& other : state_.groups) other.attention = true;
    return true;
}

}  // namespace o3bnn::accel
