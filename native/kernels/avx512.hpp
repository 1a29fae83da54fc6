// What the AVX-512 files share.
#pragma once

#include "kernels/kernel.hpp"

namespace o3bnn::avx512 {

inline constexpr std::size_t kLanes = 8;  ///< channels of a vector

/// A dense call that sets the bits that fire; the others must be zero already.
void add_bits(const BinaryDenseTask& task);

void pool_windows(const BinaryPoolTask& task);

}  // namespace o3bnn::avx512
