// Threads that share the work inside one image.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>

#include "engine/walk.hpp"

namespace o3bnn {

/// One thread leads: it goes through an image and opens a phase for each stage, whose parts are then done by whoever is
/// there. Helpers may join late or not at all; no thread ever waits for one that has not taken a part.
class Team {
  public:
    using Body = std::function<void(std::size_t part, Scratch&)>;

    /// For the leader: does parts 0 .. parts - 1 together with the helpers; returns when all are done. Throws the first
    /// exception of any of them. parts < 2^16.
    void phase(std::size_t parts, const Body& body, Scratch& scratch);

    /// For the leader: there are no more phases.
    void finish() { finished_.store(true, std::memory_order_release); }

    /// For a helper: takes parts of any phase until the leader has finished.
    void help(Scratch& scratch);

  private:
    bool take(Scratch& scratch);

    // The phase's number (32 bits), its parts (16 bits) and the next part to take (16 bits), in one word, so that a
    // part can only be taken of the phase that is open.
    std::atomic<std::uint64_t> ticket_{0};
    std::atomic<std::size_t> done_{0};
    std::atomic<bool> finished_{false};
    const Body* body_ = nullptr;
    std::mutex mutex_;
    std::exception_ptr error_ = nullptr;
};

}  // namespace o3bnn
