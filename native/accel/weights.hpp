// DRAM and the PEs' weight banks: which words have arrived (T23 to T27).
#pragma once

#include <deque>
#include <string>

#include "accel/config.hpp"

namespace o3bnn::accel {

/// The bandwidth of DRAM, in bits: what moves in a cycle may overdraw it, and later cycles pay.
class Dram {
  public:
    explicit Dram(int bits_per_cycle) : rate_(bits_per_cycle) {}
    void refill() { credit_ = credit_ + rate_ < rate_ ? credit_ + rate_ : rate_; }
    bool available() const { return credit_ > 0; }
    void take(std::int64_t bits) { credit_ -= bits; }

  private:
    std::int64_t rate_, credit_ = 0;
};

class WeightStream {
  public:
    WeightStream(const Config& config, Dram& dram)
        : config_(config), dram_(dram), held_(static_cast<std::size_t>(config.pes), 0) {}

    /// Passes are added in the order in which they run; every pass, resident or not.
    void add(const PassPlan& plan, int edge_words, bool single_window);
    void start(std::size_t pass, Counters& counters) { running_ = pass, counters_ = &counters; }
    /// Takes deliveries in and requests more; calls delivered(pass, lane) for each burst that came.
    template <class Delivered>
    bool operate(Cycle now, Delivered delivered) {
        const bool transfers = !under_way_.empty();
        while (!under_way_.empty() && under_way_.front().time <= now) {
            const Delivery& delivery = under_way_.front();
            Pass& p = passes_[delivery.pass];
            p.arrived[delivery.index] += delivery.words;
            p.missing -= delivery.words;
            delivered(delivery.pass, static_cast<int>(delivery.index) / p.plan->slots);
            under_way_.pop_front();
        }
        return request_all(now) || transfers;
    }

    bool arrived(std::size_t pass, int lane, int slot, int word) const {
        const Pass& p = passes_[pass];
        return p.plan->resident || word < p.arrived[index(p, lane, slot)];
    }
    /// Whether all words of a channel have arrived.
    bool complete(std::size_t pass, int lane, int slot) const {
        const Pass& p = passes_[pass];
        return p.plan->resident || p.arrived[index(p, lane, slot)] == p.edge_words;
    }
    /// Whether all words of a pass are in the banks until it ends.
    bool all_here(std::size_t pass) const {
        const Pass& p = passes_[pass];
        return p.plan->resident || (!p.single && p.missing == 0);
    }
    /// A word of a streamed single-use pass has issued.
    void issued(std::size_t pass, int pe, int lane, int slot);
    /// A neuron of a streamed single-use pass is decided.
    void decided(std::size_t pass, int pe, int lane, int slot);
    void finish(std::size_t pass);
    std::string state() const;

  private:
    struct Pass {
        const PassPlan* plan;
        int edge_words;
        bool single;
        std::vector<int> arrived, requested, used;  ///< words of each [lane][slot]
        std::vector<std::uint8_t> decided;
        std::int64_t missing;   ///< words that have not arrived
        bool finished = false;  ///< what was not requested by then never is
    };
    struct Delivery {
        Cycle time;
        std::size_t pass, index;
        int words;
    };

    static std::size_t index(const Pass& p, int lane, int slot) {
        return static_cast<std::size_t>(lane * p.plan->slots + slot);
    }
    void advance(const Pass& p);
    bool request_all(Cycle now);
    bool request(Cycle now);

    Config config_;
    Dram& dram_;
    std::vector<int> held_;
    std::vector<Pass> passes_;
    std::deque<Delivery> under_way_;
    std::size_t running_ = 0;
    Counters* counters_ = nullptr;
    std::size_t next_pass_ = 0;
    int next_slot_ = 0, next_word_ = 0, next_lane_ = 0;
};

}  // namespace o3bnn::accel
