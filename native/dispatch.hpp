// Instruction sets: which kernels exist, which run on this machine.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernel.hpp"

namespace o3bnn {

struct Isa {
    const char* name;
    bool (*supported)();  ///< whether this processor (and operating system) runs it
    const BinaryKernel* binary;
    const IntegerKernel* integer;
    const OutputKernel* output;
};

/// Names of the instruction sets that this machine runs, the best first; `scalar` is always the last.
std::vector<std::string> available_isas();

/// The named instruction set. Throws std::invalid_argument where it is unknown or not supported here.
const Isa& find_isa(std::string_view name);

}  // namespace o3bnn
