// How fast this machine could evaluate edges at most.
#pragma once

#include <string_view>

namespace o3bnn {

/// Edges a second of an instruction set's popcount loop on one thread, the best of some runs of a millisecond. Throws
/// std::invalid_argument where the instruction set is not available here.
double roofline(std::string_view isa);

}  // namespace o3bnn
