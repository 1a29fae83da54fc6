#include "accel/units.hpp"

namespace o3bnn::accel {

ImageReader::ImageReader(State& state) : state_(state) {
    if (state_.layer.plan().image_places > 0) state_.here = 0;
}

bool ImageReader::operate(Cycle now) {
    if (state_.layer.plan().image_places == 0 || state_.here == state_.layer.elements()) return false;
    const bool transfers = !under_way_.empty();
    while (!under_way_.empty() && under_way_.front().time <= now) {
        state_.here += under_way_.front().elements;
        under_way_.pop_front();
        for (const Group& g : state_.groups)
            if (g.waits) state_.call_loader(g);
    }
    request(now);
    return transfers;
}

/// Takes half of what DRAM carries a cycle at most, and leaves the other half to the weights.
void ImageReader::request(Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    const std::int64_t all = state_.layer.elements(), rate = (state_.config.dram_bits + 1) / 2;
    const int oldest = state_.first_unretired;
    const std::int64_t kept = oldest < plan.windows() ? state_.layer.first_read_from(oldest) : all;
    const std::int64_t end = std::min(all, kept + plan.image_places);
    const int word = std::max(state_.config.word / plan.planes, 1);  // elements
    credit_ = std::min(credit_ + rate, rate);
    while (credit_ > 0 && requested_ < end && state_.dram.available()) {
        const std::int64_t elements = std::min<std::int64_t>(word, end - requested_);
        const std::int64_t bits = elements * plan.planes;
        state_.dram.take(bits);
        credit_ -= bits;
        requested_ += elements;
        state_.gone = std::max(state_.gone, requested_ - plan.image_places);
        state_.counters.dram_map_bits += bits;
        state_.counters.map_write_bits += bits;
        under_way_.push_back({now + state_.config.dram_latency, elements});
    }
}

}  // namespace o3bnn::accel
