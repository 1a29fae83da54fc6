#include "accel/units.hpp"

namespace o3bnn::accel {

bool Retire::operate(Cycle now) {
    bool progress = false;
    finished_ = 0;
    for (Group& g : state_.groups) {
        if (g.retired < g.loaded && g.ring[state_.ring(g.retired)].open == 0) {
            const std::int64_t bits =
                std::count_if(state_.plan.channels.begin(), state_.plan.channels.end(), [](int c) { return c >= 0; });
            state_.counters.map_write_bits += bits;
            ++state_.counters.windows;
            if (state_.layer.plan().spilled_out) {
                state_.dram.take(bits);
                state_.counters.dram_map_bits += bits;
            }
            if (state_.trace.on(now))
                state_.trace.add(
                    {now, Event::retire, state_.stage, g.index, state_.stage_window(g, g.retired), 0, -1, 0, -1});
            ++g.retired;
            progress = true;
        }
        finished_ += state_.exhausted(g) && g.retired == g.loaded ? 1 : 0;
    }
    return progress;
}

}  // namespace o3bnn::accel
