#include "accel/units.hpp"

namespace o3bnn::accel {

bool Retire::operate(Cycle now) {
    bool progress = false;
    for (std::size_t group = 0; group < state_.groups.size(); ++group) {
        std::uint8_t& settled = state_.settled_windows[group];
        if (!settled) continue;
        settled = retire(state_.groups[group], now);
        progress |= settled != 0;
    }
    return progress;
}

/// Retires the group's first window if it is settled.
bool Retire::retire(Group& g, Cycle now) {
    const Slot& slot = g.ring[state_.ring(g.retired)];
    if (g.retired == g.loaded || slot.open > 0) return false;
    const std::int64_t bits = slot.bits;
    state_.counters.map_write_bits += bits;
    state_.counters.windows += slot.strip->pairs.empty() ? 1 : 0;
    if (state_.layer.plan().spilled_out) {
        state_.dram.take(bits);
        state_.counters.dram_map_bits += bits;
    }
    if (state_.trace.on(now))
        state_.trace.add({now, Event::retire, state_.stage, g.index, state_.stage_window(g, g.retired), 0, -1, 0, -1});
    ++g.retired;
    ++state_.retired;
    state_.call_loader(g);
    if (state_.layer.plan().image_places > 0) find_first_unretired();
    if (g.strips.front().first + g.strips.front().count > g.retired) return true;
    g.strips.pop_front();
    if (state_.plan.shared())  // what waits for its place in the neuron map may have it now
        for (const Group& other : state_.groups) state_.call_loader(other);
    return true;
}

/// T30. A group's windows are not in order where it helps.
void Retire::find_first_unretired() {
    state_.first_unretired = state_.next_window;
    for (const Group& g : state_.groups)
        for (auto w = g.windows.begin() + g.retired; w != g.windows.end(); ++w)
            state_.first_unretired = std::min(state_.first_unretired, *w);
}

}  // namespace o3bnn::accel
