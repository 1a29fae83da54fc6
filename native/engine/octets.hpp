// Integer inputs as octets: a table of 256 small integers is usually a line through 0..255, and then so are its sums.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/aligned.hpp"

namespace o3bnn {

class Stage;

/// What the first stage needs to read octets u in place of the encoded integers x = step * u + least; by default
/// x = 2p - 255, thus u = p. The image is copied into a map with the padding around it, where u = 0, so that all
/// patches are gathered alike.
class OctetForm {
  public:
    /// Nothing where the table is no such line, or where the instruction set has no kernel for octets.
    static std::optional<OctetForm> of(const Stage& stage, const std::int16_t* table);

    std::size_t steps;         ///< of kOctetStep edges
    std::size_t patch_octets;  ///< of a patch's memory
    std::size_t map_octets() const { return row_ * height_ + kSlack; }

    /// image: uint8 [h][w][c]. map: [map_octets()].
    void encode(const std::uint8_t* image, std::uint8_t* map) const;

    /// The patch of the neuron at (y, x).
    void gather(const std::uint8_t* map, std::size_t y, std::size_t x, std::uint8_t* patch) const {
        const std::uint8_t* source = map + y * down_ + x * right_;
        for (std::size_t ky = 0; ky < kernel_rows_; ++ky, source += row_, patch += run_) {
            // In whole chunks. What is too much is overwritten by the next kernel row, or lies beyond the last edge.
            for (std::size_t i = 0; i < run_; i += kSlack) __builtin_memcpy(patch + i, source + i, kSlack);
        }
    }

    const std::uint8_t* map_row(const std::uint8_t* map, std::size_t row) const { return map + row * row_; }
    std::size_t run() const { return run_; }      ///< octets of a kernel row
    std::size_t right() const { return right_; }  ///< octets from one position to the next

    const std::int8_t* blocks() const { return blocks_.data(); }
    const std::int32_t* limits(std::size_t border_class) const {
        return limits_.data() + border_class * padded_outputs_;
    }

  private:
    static constexpr std::size_t kSlack = 16;

    explicit OctetForm(const Stage& stage);
    bool read_table(const std::int16_t* table);
    void interleave(const Stage& stage);
    void derive_limits(const Stage& stage);

    std::int32_t step_ = 1, least_ = 0;
    std::uint8_t octets_[256] = {};
    bool identity_ = false;  ///< whether octets_[p] == p
    std::size_t row_, height_;  ///< of the map: octets of a row, rows
    std::size_t kernel_rows_, run_, down_, right_;
    std::size_t top_, left_, image_rows_, image_row_;
    std::size_t padded_outputs_;
    AlignedVector<std::int8_t> blocks_;
    std::vector<std::int32_t> limits_;
};

}  // namespace o3bnn
