// What the AVX-512 files share.
#pragma once

#include "kernels/kernel.hpp"

namespace o3bnn::avx512 {

inline constexpr std::size_t kLanes = 8;  ///< channels of a vector

/// A dense call that sets the bits that fire; the others must be zero already.
void add_bits(const BinaryDenseTask& task);

void pool_windows(const BinaryPoolTask& task);

inline constexpr std::size_t kTableLanes = 32;  ///< channels of a vector of 16-bit sums

void make_tables(const std::uint8_t* octets, std::size_t step, std::size_t count, std::int16_t* out);
void by_tables(const TableTask& task);

}  // namespace o3bnn::avx512
