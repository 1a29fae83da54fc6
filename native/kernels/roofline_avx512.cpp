// 4 patches x 32 channels of one word: xor, popcount and add of sixteen vectors, all in registers.
#include <immintrin.h>

#include "kernels/roofline.hpp"

namespace o3bnn {
namespace {

constexpr int kPatches = 4, kVectors = 4;

void run(std::uint64_t rounds) {
    __m512i sums[kPatches][kVectors], weights[kVectors], patches[kPatches];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        weights[i] = _mm512_set1_epi64(i);
        patches[i] = _mm512_set1_epi64(~i);
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) sums[i][c] = _mm512_setzero_si512();
    }
    for (std::uint64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) asm volatile("" : "+v"(weights[c]));  // new ones, for all the compiler knows
#pragma GCC unroll 4
        for (int p = 0; p < kPatches; ++p) {
#pragma GCC unroll 4
            for (int c = 0; c < kVectors; ++c)
                sums[p][c] =
                    _mm512_add_epi64(sums[p][c], _mm512_popcnt_epi64(_mm512_xor_si512(patches[p], weights[c])));
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < kPatches; ++p) {
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) asm volatile("" : : "v"(sums[p][c]));
    }
}

}  // namespace

const RooflineLoop roofline_avx512 = {512 * kPatches * kVectors, run};

}  // namespace o3bnn
