#include "engine/team.hpp"

#include <thread>

namespace o3bnn {
namespace {

constexpr std::uint64_t kField = 0xffff;
constexpr int kSpins = 2000;  // then the processor is left to others: they may hold the part that is waited for

std::uint64_t parts_of(std::uint64_t ticket) { return ticket >> 16 & kField; }
std::uint64_t next_of(std::uint64_t ticket) { return ticket & kField; }

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

template <class Condition>
void spin_until(Condition condition) {
    for (int spins = 0; !condition(); ++spins) {
        if (spins < kSpins)
            pause();
        else
            std::this_thread::yield();
    }
}

}  // namespace

/// Takes a part of the open phase and does it; false where there is none.
bool Team::take(Scratch& scratch) {
    std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
    do {
        if (next_of(ticket) >= parts_of(ticket)) return false;
    } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire));
    try {
        (*body_)(next_of(ticket), scratch);
    } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
    }
    done_.fetch_add(1, std::memory_order_acq_rel);
    return true;
}

void Team::phase(std::size_t parts, const Body& body, Scratch& scratch) {
    body_ = &body;
    done_.store(0, std::memory_order_relaxed);
    const std::uint64_t number = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
    ticket_.store(number << 32 | static_cast<std::uint64_t>(parts) << 16, std::memory_order_release);
    while (take(scratch)) {
    }
    spin_until([&] { return done_.load(std::memory_order_acquire) == parts; });
    if (error_) std::rethrow_exception(error_);
}

void Team::help(Scratch& scratch) {
    spin_until([&] {
        while (take(scratch)) {
        }
        return finished_.load(std::memory_order_acquire);
    });
}

}  // namespace o3bnn
