// The first stage by look-up: kernel rows are cut into groups of six octets, and each group of a map row gets a table
// of the 64 sums that six weights can make of it. Patches that overlap share the tables.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/aligned.hpp"
#include "engine/octets.hpp"
#include "kernels/kernel.hpp"

namespace o3bnn {

class TableForm {
  public:
    /// Nothing where the instruction set has no such kernel, or where making tables costs more than it saves.
    static std::optional<TableForm> of(const Stage& stage, const OctetForm& octets);

    std::size_t kernel_rows() const { return kernel_rows_; }
    std::size_t row_entries() const { return row_tables_ * kTableEntries; }
    std::size_t positions() const { return positions_; }

    /// The tables of a map row, [row_entries()], and for each position of a row of neurons the sum of the octets that
    /// its last table covers beyond the kernel row, [positions()]. octets: the map row.
    void make(const IntegerKernel& kernel, const std::uint8_t* octets, std::int16_t* tables,
              std::int32_t* beyond) const;

    /// Of the neuron at column x, all but `beyond`.
    TableTile tile(std::size_t x, std::size_t border_class, Word* fired) const {
        const std::size_t first = border_class * padded_outputs_;
        const std::int16_t* narrow = narrow_.empty() ? nullptr : narrow_.data() + first;
        return {x * position_step_, 0, limits_.data() + first, narrow, fired};
    }

    /// rows: the tables of each of a patch's map rows.
    TableTask task(const TableTile* tiles, std::size_t count, const std::int16_t* const* rows) const {
        return {tiles,    count,           rows,           kernel_rows_, groups_, kTableOctets / grain_,
                stretch_, indices_.data(), starts_.data(), channels_};
    }

  private:
    TableForm(const Stage& stage, const OctetForm& octets);
    bool pays(const Stage& stage, const OctetForm& octets) const;
    void index(const Stage& stage);
    void derive_limits(const Stage& stage, const OctetForm& octets);

    std::size_t kernel_rows_;
    std::size_t run_, right_;      ///< octets of a kernel row, and from one position to the next
    std::size_t positions_;        ///< in a row of neurons
    std::size_t groups_, grain_;   ///< tables of a kernel row; octets from one table of a map row to the next
    std::size_t position_step_;    ///< tables from one position to the next
    std::size_t row_tables_;       ///< of a map row
    std::size_t stretch_;          ///< kernel rows whose sums fit 16 bits; 0 where not even one does
    std::size_t channels_, padded_outputs_;
    AlignedVector<std::uint16_t> indices_;
    AlignedVector<std::int16_t> starts_;
    std::vector<std::int32_t> limits_;
    std::vector<std::int16_t> narrow_;  ///< limits - 1, where one stretch holds all kernel rows
};

}  // namespace o3bnn
