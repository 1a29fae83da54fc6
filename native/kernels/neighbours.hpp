// Tiles of a dense call that are evaluated together.
//
// Included by files with flags of their own: everything is in the anonymous namespace, see kernel.hpp.
#pragma once

#include "kernels/kernel.hpp"

namespace o3bnn {
namespace {

/// How many tiles from `tile` on have the same runs.
[[maybe_unused]] std::size_t neighbours(const BinaryDenseTask& task, std::size_t tile) {
    std::size_t end = tile + 1;
    while (end < task.count && task.tiles[end].runs == task.tiles[tile].runs) ++end;
    return end - tile;
}

}  // namespace
}  // namespace o3bnn
