// The whole machine: runs an image through all stages, cycle by cycle.
#pragma once

#include <stdexcept>

#include "accel/units.hpp"

namespace o3bnn::accel {

/// A machine that does not move any more; the message holds the state of every unit.
struct Deadlock : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Result {
    std::vector<Map> maps;  ///< bits of every stage but the output stage
    std::vector<std::int64_t> sums;
    std::vector<Counters> counters;
    std::vector<TraceEvent> events;
};

class Machine {
  public:
    /// Config and stages stay with the caller, who keeps them as long as the machine.
    Machine(const Config& config, const std::vector<StagePlan>& stages);
    Result run(const Map& image, Trace trace) const;

  private:
    void run_pass(State& state, Cycle& now) const;

    const Config& config_;
    const std::vector<StagePlan>& stages_;
    std::vector<Layer> layers_;
};

}  // namespace o3bnn::accel
