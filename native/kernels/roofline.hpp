// The popcount roofline: the arithmetic of a dense kernel's innermost loop alone, with nothing to gather, to load from
// memory or to compare. A file an instruction set, with the kernel's flags.
#pragma once

#include <cstdint>

namespace o3bnn {

struct RooflineLoop {
    std::uint64_t edges;  ///< that one round covers
    void (*run)(std::uint64_t rounds);
};

extern const RooflineLoop roofline_scalar;
extern const RooflineLoop roofline_avx2;
extern const RooflineLoop roofline_avx512;
extern const RooflineLoop roofline_neon;

}  // namespace o3bnn
