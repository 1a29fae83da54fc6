// Three look-ups of four edges for two patches x 128 channels: the eight instructions a vector of avx2_lookup.hpp,
// weights unpacked in the first-level cache.
#include <immintrin.h>

#include "kernels/roofline.hpp"

namespace o3bnn {
namespace {

constexpr int kLookUps = 3, kVectors = 4;
constexpr std::uint64_t kEdgesOfLookUp = 4 * 2 * 32;  // four edges, two patches, 32 channels

/// counter += x in octets; in assembly as in avx2_lookup.hpp, since GCC 12 copies the counters around the intrinsic.
void add_octets(__m256i& counter, __m256i x) { asm volatile("vpaddb %1, %0, %0" : "+x"(counter) : "x"(x)); }

void run(std::uint64_t rounds) {
    __m256i weights[kVectors][kLookUps] = {};
    __m256i all[kVectors], high[kVectors], tables[kLookUps];
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) all[c] = high[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int i = 0; i < kLookUps; ++i) tables[i] = _mm256_set1_epi8(static_cast<char>(i));
    for (std::uint64_t round = 0; round < rounds; ++round) {
        asm volatile("" : "+m"(weights));  // read anew
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) {
            const __m256i two = _mm256_add_epi8(_mm256_shuffle_epi8(tables[0], weights[c][0]),
                                                _mm256_shuffle_epi8(tables[1], weights[c][1]));
            const __m256i three = _mm256_add_epi8(two, _mm256_shuffle_epi8(tables[2], weights[c][2]));
            add_octets(all[c], three);
            add_octets(high[c], _mm256_srli_epi16(three, 4));
        }
    }
}

}  // namespace

const RooflineLoop roofline_avx2 = {kEdgesOfLookUp * kLookUps * kVectors, run};

}  // namespace o3bnn
