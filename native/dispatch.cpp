#include "dispatch.hpp"

#include <stdexcept>

namespace o3bnn {
namespace {

/// Best first. A further instruction set is a line here, its kernels' declarations in kernel.hpp, and source files.
const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512",
     [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vbmi2") &&
                __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512ifma") &&
                __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
     },
     &conv_b1_avx512, &conv_int_avx512, &output_avx512},
    {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"); }, &conv_b1_avx2,
     &conv_int_avx2, &output_avx2},
#elif defined(__aarch64__)
    {"neon", [] { return true; }, &conv_b1_neon, &conv_int_neon, &output_neon},
#endif
    {"scalar", [] { return true; }, &conv_b1_scalar, &conv_int_scalar, &output_scalar},
};

}  // namespace

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Isa& isa : kIsas) {
        if (isa.supported()) names.emplace_back(isa.name);
    }
    return names;
}

const Isa& find_isa(std::string_view name) {
    for (const Isa& isa : kIsas) {
        if (name == isa.name && isa.supported()) return isa;
    }
    throw std::invalid_argument("instruction set '" + std::string(name) + "' is not available here");
}

}  // namespace o3bnn
