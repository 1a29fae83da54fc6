// Counting kernels: what the pruning rules spend at any edge word width, with either kind of bounds.
#pragma once

#include "kernels/kernel.hpp"

namespace o3bnn {

enum class Bounds { simple, sharp };

BinaryPrune counting_binary(std::size_t word, Bounds bounds);
IntegerPrune counting_integer(std::size_t word, Bounds bounds);

/// int32 elements of PruneTask::workspace that a counting kernel needs for patches of `words` words (64 bits).
std::size_t prune_workspace(std::size_t words, std::size_t word, Bounds bounds);

}  // namespace o3bnn
