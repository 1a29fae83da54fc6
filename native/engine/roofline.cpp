#include "engine/roofline.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "dispatch.hpp"
#include "kernels/roofline.hpp"

namespace o3bnn {
namespace {

constexpr double kSeconds = 1e-3;
constexpr int kRuns = 20;
constexpr std::uint64_t kFirstRounds = 1024;

const RooflineLoop& loop_of(std::string_view isa) {
#if defined(__x86_64__)
    if (isa == "avx512") return roofline_avx512;
    if (isa == "avx2") return roofline_avx2;
#elif defined(__aarch64__)
    if (isa == "neon") return roofline_neon;
#endif
    if (isa == "scalar") return roofline_scalar;
    throw std::logic_error("an instruction set without a roofline");
}

double seconds(const RooflineLoop& loop, std::uint64_t rounds) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    loop.run(rounds);
    return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

double roofline(std::string_view isa) {
    const RooflineLoop& loop = loop_of(find_isa(isa).name);
    std::uint64_t rounds = kFirstRounds;
    while (seconds(loop, rounds) < kSeconds) rounds *= 2;
    double best = seconds(loop, rounds);
    for (int run = 1; run < kRuns; ++run) best = std::min(best, seconds(loop, rounds));
    return static_cast<double>(loop.edges) * static_cast<double>(rounds) / best;
}

}  // namespace o3bnn
