// 4 patches x 8 channels of one word: xor, popcount of octets and add of sixteen vectors, all in registers.
#include <arm_neon.h>

#include "kernels/roofline.hpp"

namespace o3bnn {
namespace {

constexpr int kPatches = 4, kVectors = 4;

void run(std::uint64_t rounds) {
    uint8x16_t sums[kPatches][kVectors], weights[kVectors], patches[kPatches];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        weights[i] = vdupq_n_u8(static_cast<std::uint8_t>(i));
        patches[i] = vdupq_n_u8(static_cast<std::uint8_t>(~i));
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) sums[i][c] = vdupq_n_u8(0);
    }
    for (std::uint64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) asm volatile("" : "+w"(weights[c]));  // new ones, for all the compiler knows
#pragma GCC unroll 4
        for (int p = 0; p < kPatches; ++p) {
#pragma GCC unroll 4
            for (int c = 0; c < kVectors; ++c)
                sums[p][c] = vaddq_u8(sums[p][c], vcntq_u8(veorq_u8(patches[p], weights[c])));
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < kPatches; ++p) {
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) asm volatile("" : : "w"(sums[p][c]));
    }
}

}  // namespace

const RooflineLoop roofline_neon = {128 * kPatches * kVectors, run};

}  // namespace o3bnn
