// One patch x 4 channels, three words at a time through a full adder: the arithmetic of scalar.cpp.
#include "kernels/popcount.hpp"
#include "kernels/roofline.hpp"

namespace o3bnn {
namespace {

constexpr int kLanes = 4, kWords = 3;

void run(std::uint64_t rounds) {
    Word weights[kWords][kLanes] = {}, octets[kLanes] = {};
    const Word patch[kWords] = {1, 2, 4};
    for (std::uint64_t round = 0; round < rounds; ++round) {
        asm volatile("" : : "r"(weights), "r"(octets) : "memory");  // new weights, as far as the compiler knows
        for (int lane = 0; lane < kLanes; ++lane) {
            const Word a = patch[0] ^ weights[0][lane];
            const Word b = patch[1] ^ weights[1][lane];
            const Word c = patch[2] ^ weights[2][lane];
            const Word half = a ^ b;
            const Word ones = add_pairs(count_pairs(half ^ c));
            const Word twos = add_pairs(count_pairs((a & b) | (half & c)));
            const Word nibbles = ones + twos + twos;
            octets[lane] += (nibbles & kOctets) + ((nibbles >> 4) & kOctets);
        }
    }
    asm volatile("" : : "r"(octets) : "memory");
}

}  // namespace

const RooflineLoop roofline_scalar = {kWordBits * kLanes * kWords, run};

}  // namespace o3bnn
