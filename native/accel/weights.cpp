#include "accel/weights.hpp"

#include <algorithm>

namespace o3bnn::accel {

void WeightStream::add(const PassPlan& plan, int edge_words, bool single_window) {
    const std::size_t size = plan.resident ? 0 : static_cast<std::size_t>(plan.lanes * plan.slots);
    const std::vector<int> none(size, 0);
    const auto channels = std::count_if(plan.channels.begin(), plan.channels.end(), [](int c) { return c >= 0; });
    passes_.push_back({&plan, edge_words, single_window, none, none, none, std::vector<std::uint8_t>(size, 0),
                       std::int64_t{channels} * edge_words});
}

/// Requests whatever has a place, as far as DRAM carries it.
bool WeightStream::request_all(Cycle now) {
    bool progress = false;
    while (dram_.available() && next_pass_ < passes_.size() && request(now)) progress = true;
    return progress;
}

/// Requests or skips the burst at the cursor; false where it has no place.
bool WeightStream::request(Cycle now) {
    Pass& p = passes_[next_pass_];
    if (p.plan->resident || p.finished) {
        ++next_pass_;
        next_slot_ = next_word_ = next_lane_ = 0;
        return true;
    }
    const std::size_t i = index(p, next_lane_, next_slot_);
    const int words = std::min(config_.burst_words, p.edge_words - next_word_);
    if (p.plan->channels[i] >= 0 && !p.decided[i]) {
        for (int g = 0; g < p.plan->groups; ++g)
            if (held_[static_cast<std::size_t>(g * p.plan->lanes + next_lane_)] + words > config_.stream_words)
                return false;
        for (int g = 0; g < p.plan->groups; ++g)
            held_[static_cast<std::size_t>(g * p.plan->lanes + next_lane_)] += words;
        const std::int64_t bits = std::int64_t{words} * config_.word;
        dram_.take(bits);
        counters_->dram_weight_bits += bits;
        counters_->weight_writes += std::int64_t{words} * p.plan->groups;
        p.requested[i] += words;
        under_way_.push_back({now + config_.dram_latency, next_pass_, i, words});
    }
    advance(p);
    return true;
}

void WeightStream::advance(const Pass& p) {
    if (++next_lane_ < p.plan->lanes) return;
    next_lane_ = 0;
    if ((next_word_ += config_.burst_words) < p.edge_words) return;
    next_word_ = 0;
    if (++next_slot_ < p.plan->slots) return;
    next_slot_ = 0;
    ++next_pass_;
}

void WeightStream::issued(std::size_t pass, int pe, int lane, int slot) {
    Pass& p = passes_[pass];
    ++p.used[index(p, lane, slot)];
    --held_[static_cast<std::size_t>(pe)];
}

void WeightStream::decided(std::size_t pass, int pe, int lane, int slot) {
    Pass& p = passes_[pass];
    const std::size_t i = index(p, lane, slot);
    p.decided[i] = 1;
    held_[static_cast<std::size_t>(pe)] -= p.requested[i] - p.used[i];
    p.used[i] = p.requested[i];
}

void WeightStream::finish(std::size_t pass) {
    Pass& p = passes_[pass];
    p.finished = true;
    if (p.plan->resident || p.single) return;
    for (int lane = 0; lane < p.plan->lanes; ++lane)
        for (int slot = 0; slot < p.plan->slots; ++slot)
            for (int g = 0; g < p.plan->groups; ++g)
                held_[static_cast<std::size_t>(g * p.plan->lanes + lane)] -= p.requested[index(p, lane, slot)];
}

std::string WeightStream::state() const {
    return "weights: pass " + std::to_string(running_) + " runs, next request pass " + std::to_string(next_pass_) +
           " slot " + std::to_string(next_slot_) + " word " + std::to_string(next_word_) + " lane " +
           std::to_string(next_lane_) + ", " + std::to_string(under_way_.size()) + " bursts under way, fullest bank " +
           std::to_string(*std::max_element(held_.begin(), held_.end())) + " of " +
           std::to_string(config_.stream_words);
}

}  // namespace o3bnn::accel
