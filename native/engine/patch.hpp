// Gathering: the operand of one neuron position, tight in (kernel row, kernel column, channel) order.
#pragma once

#include "engine/stage.hpp"

namespace o3bnn {

/// Copies `count` bits from bit `from` of `source` to bit `to` of `target`, whose bits there are zero.
void append_bits(Word* target, std::size_t to, const Word* source, std::size_t from, std::size_t count);

/// The map's bits without the padding of each pixel: [word_count(elements)].
void flatten_bits(const Shape& shape, const Word* map, Word* flat);

/// One group's patch of bits [stage.words], zero where an edge does not exist.
void gather_bits(const Stage& stage, const Word* map, std::size_t y, std::size_t x, std::size_t group, Word* patch);

/// The part of a padded map that a stage reads, for stages whose pixels are whole octets and that have one group.
/// Pixels lie side by side, without the padding to whole words.
struct PaddedMap {
    std::size_t row, height;  ///< octets of a row, rows

    explicit PaddedMap(const Stage& stage);
    std::size_t words() const { return (row * height + sizeof(Word) - 1) / sizeof(Word); }

    /// Whether a stage is to be run on one: its patches are then copied without a look at the border.
    static bool suits(const Stage& stage);
};

/// map: [in.words()]. padded: [PaddedMap::words()].
void pad_bits(const Stage& stage, const Word* map, Word* padded);

/// As gather_bits, from a padded map.
void gather_padded(const Stage& stage, const Word* padded, std::size_t y, std::size_t x, Word* patch);

/// One group's patch of integers [stage.integer_stride], zero where an edge does not exist. map: int16 [h][w][c].
void gather_integers(const Stage& stage, const std::int16_t* map, std::size_t y, std::size_t x, std::size_t group,
                     std::int16_t* patch);

}  // namespace o3bnn
