// A pool of threads that take items of a job off a shared counter.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace o3bnn {

/// The items 0 .. total - 1 of a job; each is taken once.
class ItemQueue {
  public:
    explicit ItemQueue(std::size_t total) : total_(total) {}

    bool take(std::size_t& item) {
        item = next_.fetch_add(1, std::memory_order_relaxed);
        return item < total_;
    }
    bool exhausted() const { return next_.load(std::memory_order_relaxed) >= total_; }
    void abandon() { next_.store(total_, std::memory_order_relaxed); }

  private:
    std::atomic<std::size_t> next_{0};
    const std::size_t total_;
};

/// The caller of `run` works too, so a pool of `threads` has threads - 1 helpers. They start with the first job that
/// has more than one item. Any number of threads may call `run` at the same time; helpers join the oldest job that has
/// items.
class Pool {
  public:
    explicit Pool(std::size_t threads) : helpers_wanted_(threads - 1) {}
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    using Participant = std::function<void(ItemQueue&)>;

    /// Calls participant(queue) once in each thread that takes part; each takes items until there are none. Returns
    /// when all have; the first exception of any of them ends the job and is thrown here.
    void run(std::size_t items, const Participant& participant);

  private:
    struct Job {
        ItemQueue queue;
        const Participant& participant;
        std::size_t helpers = 0;  // guarded by mutex_, as is error
        std::exception_ptr error = nullptr;
    };

    void start_helpers();
    void help();
    void take_part(Job& job);
    void remove(Job& job);

    const std::size_t helpers_wanted_;
    std::mutex mutex_;
    std::condition_variable jobs_changed_, helper_left_;
    std::deque<Job*> jobs_;
    bool stopping_ = false;
    std::vector<std::thread> helpers_;
};

}  // namespace o3bnn
