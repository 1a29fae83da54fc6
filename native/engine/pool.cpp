#include "engine/pool.hpp"

#include <algorithm>
#include <system_error>

namespace o3bnn {

Pool::~Pool() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    jobs_changed_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
}

void Pool::run(std::size_t items, const Participant& participant) {
    if (items == 0) return;
    Job job{ItemQueue(items), participant};
    const bool shared = items > 1 && helpers_wanted_ > 0;
    if (shared) {
        const std::lock_guard lock(mutex_);
        start_helpers();
        jobs_.push_back(&job);
        jobs_changed_.notify_all();
    }
    take_part(job);
    if (shared) {
        std::unique_lock lock(mutex_);
        remove(job);
        helper_left_.wait(lock, [&job] { return job.helpers == 0; });
    }
    if (job.error) std::rethrow_exception(job.error);
}

/// Where the system gives no more threads, the job is done by those that there are.
void Pool::start_helpers() {
    try {
        helpers_.reserve(helpers_wanted_);
        while (helpers_.size() < helpers_wanted_) helpers_.emplace_back([this] { help(); });
    } catch (const std::system_error&) {
    }
}

void Pool::help() {
    std::unique_lock lock(mutex_);
    for (;;) {
        jobs_changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (stopping_) return;
        Job& job = *jobs_.front();
        if (job.queue.exhausted()) {
            remove(job);
            continue;
        }
        ++job.helpers;
        lock.unlock();
        take_part(job);
        lock.lock();
        remove(job);
        --job.helpers;
        helper_left_.notify_all();
    }
}

void Pool::take_part(Job& job) {
    try {
        job.participant(job.queue);
    } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!job.error) job.error = std::current_exception();
        job.queue.abandon();
    }
}

/// Takes a job that has no more items off the list; nothing where it is gone already. mutex_ is held.
void Pool::remove(Job& job) {
    const auto found = std::find(jobs_.begin(), jobs_.end(), &job);
    if (found != jobs_.end()) jobs_.erase(found);
}

}  // namespace o3bnn
