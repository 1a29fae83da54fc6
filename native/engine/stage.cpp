#include "engine/stage.hpp"

#include <algorithm>
#include <stdexcept>

#include "kernels/popcount.hpp"

namespace o3bnn {

Stage::Stage(const StageSpec& spec, const Isa& isa, const std::int16_t* table)
    : in(spec.in),
      conv(spec.conv),
      out{(conv.height - spec.pool_size.rows) / spec.pool_stride.rows + 1,
          (conv.width - spec.pool_size.columns) / spec.pool_stride.columns + 1, conv.channels},
      kernel(spec.kernel),
      stride(spec.stride),
      pool_size(spec.pool_size),
      pool_stride(spec.pool_stride),
      top(spec.top),
      left(spec.left),
      groups(spec.groups),
      integer_input(spec.integer_input),
      method(spec.method),
      magnitude(spec.magnitude),
      binary(isa.binary),
      integer(isa.integer),
      group_inputs(in.channels / groups),
      group_outputs(conv.channels / groups),
      full_fan_in(kernel.rows * kernel.columns * group_inputs),
      words(word_count(full_fan_in)),
      row_words(round_up(words, kRowStep)),
      integer_stride(round_up(full_fan_in, kIntegerStep)),
      class_map_(spec.class_map),
      thresholds_(spec.thresholds) {
    const std::vector<Method> offered = offered_methods(spec, isa);
    if (std::find(offered.begin(), offered.end(), method) == offered.end())
        throw std::invalid_argument(std::string(isa.name) + " does not offer the method " + method_name(method) +
                                    " for a stage");
    kernel_name = integer_input ? "conv_int_" : "conv_b1_";
    if (method != Method::dense) kernel_name += std::string(method_name(method)) + "_";
    kernel_name += isa.name;
    derive_classes(spec);
    derive_channels(spec);
    count_edges();
    if (integer_input)
        expand_signs(spec);
    else
        rows = spec.weights;
    if (method == Method::words) return;
    if (integer_input) octets = OctetForm::of(*this, table);
    if (octets) return;
    interleave();
    if (integer_input) return;
    derive_dense_words();
    derive_limits();
    if (method == Method::pooling) derive_pool_rows();
    if (method == Method::threshold) exits.emplace(*this, spec.checks, padded_outputs_);
}

void Stage::derive_classes(const StageSpec& spec) {
    exists_ = spec.exists;
    const std::size_t classes = exists_.size() / words;
    seen_.resize(exists_.size());
    first_words_.assign(classes, 0);
    for (std::size_t c = 0; c < classes; ++c) {
        std::int32_t seen = 0;
        for (std::size_t word = 0; word < words; ++word) {
            const std::int32_t edges = popcount(exists_[c * words + word]);
            if (seen == 0 && edges > 0) first_words_[c] = word;
            seen_[c * words + word] = seen += edges;
        }
    }
}

void Stage::derive_channels(const StageSpec& spec) {
    const std::size_t per_pixel = out.pixel_words();
    const std::size_t classes = first_words_.size();
    decisive.assign(per_pixel, 0);
    channel_mask.assign(per_pixel, 0);
    constant_masks_.assign(classes * per_pixel, 0);
    constant_bits_.assign(classes * per_pixel, 0);
    for (std::size_t channel = 0; channel < conv.channels; ++channel) {
        const Word bit = Word{1} << (channel % kWordBits);
        const std::size_t word = channel / kWordBits;
        channel_mask[word] |= bit;
        if (spec.decisive[channel]) decisive[word] |= bit;
        for (std::size_t c = 0; c < classes; ++c) {
            const std::int8_t constant = spec.constant[c * conv.channels + channel];
            if (constant >= 0) constant_masks_[c * per_pixel + word] |= bit;
            if (constant > 0) constant_bits_[c * per_pixel + word] |= bit;
        }
    }
}

void Stage::count_edges() {
    std::vector<std::uint64_t> constants(first_words_.size(), 0);
    for (std::size_t c = 0; c < constants.size(); ++c) {
        for (std::size_t word = 0; word < out.pixel_words(); ++word)
            constants[c] += static_cast<std::uint64_t>(popcount(constant_mask(c)[word]));
    }
    for (std::size_t y = 0; y < conv.height; ++y) {
        for (std::size_t x = 0; reads_row(y) && x < conv.width; ++x) {
            if (!reads_column(x)) continue;
            const std::size_t c = border_class(y * conv.width + x);
            dense_edges += static_cast<std::uint64_t>(fan_in(c)) * conv.channels;
            constant_edges += static_cast<std::uint64_t>(fan_in(c)) * constants[c];
        }
    }
}

void Stage::expand_signs(const StageSpec& spec) {
    signs.assign(conv.channels * integer_stride, 0);
    for (std::size_t channel = 0; channel < conv.channels; ++channel) {
        const Word* row = spec.weights.data() + channel * words;
        for (std::size_t edge = 0; edge < full_fan_in; ++edge)
            signs[channel * integer_stride + edge] = (row[edge / kWordBits] >> (edge % kWordBits)) & 1 ? 1 : -1;
    }
}

void Stage::interleave() {
    const std::size_t lanes = integer_input ? integer->lanes : binary->lanes;
    const std::size_t length = integer_input ? full_fan_in : words;
    padded_outputs_ = round_up(group_outputs, lanes);
    if (integer_input)
        sign_blocks_.assign(groups * padded_outputs_ * length, 0);
    else
        blocks_.assign(groups * padded_outputs_ * length, 0);
    if (!integer_input && binary->pack) {
        for (std::size_t group = 0; group < groups; ++group)
            binary->pack(rows.data() + group * group_outputs * words, group_outputs, words,
                         blocks_.data() + group * padded_outputs_ * words);
        return;
    }
    for (std::size_t channel = 0; channel < conv.channels; ++channel) {
        const std::size_t start = slot(channel) / lanes * lanes * length + slot(channel) % lanes;
        for (std::size_t i = 0; i < length; ++i) {
            if (integer_input)
                sign_blocks_[start + i * lanes] = signs[channel * integer_stride + i];
            else
                blocks_[start + i * lanes] = rows[channel * words + i];
        }
    }
}

/// The words that a dense kernel evaluates in each border class: those of the kernel rows inside the map. Columns
/// outside are left in, so that all positions of a row take the same words.
void Stage::derive_dense_words() {
    dense_words_.resize(first_words_.size());
    for (std::size_t y = 0; y < conv.height; ++y) {
        const std::size_t start = y * stride.rows;
        const std::size_t low = std::min(kernel.rows, top > start ? top - start : 0);
        const std::size_t inside = in.height + top > start ? in.height + top - start : 0;
        const std::size_t high = std::max(low, std::min(kernel.rows, inside));
        const std::size_t row_edges = kernel.columns * group_inputs;
        const WordRange range{low * row_edges / kWordBits,
                              low < high ? word_count(high * row_edges) : low * row_edges / kWordBits};
        for (std::size_t x = 0; x < conv.width; ++x) dense_words_[border_class(y * conv.width + x)] = range;
    }
}

/// A patch holds zeros where edges do not exist, so there a weight of one is a mismatch that does not count:
///     m = K - (popcount(patch ^ row) - absent ones of the row) >= t   iff   popcount(patch ^ row) <= K + absent - t
/// over the words of the dense range.
std::int32_t Stage::limit(std::size_t c, std::size_t channel, WordRange range) const {
    std::int32_t absent = 0;
    if (static_cast<std::size_t>(fan_in(c)) < full_fan_in) {
        for (std::size_t word = range.begin; word < range.end; ++word)
            absent += popcount(rows[channel * words + word] & ~exists(c)[word]);
    }
    return fan_in(c) + absent - thresholds(c)[channel];
}

void Stage::derive_limits() {
    limits_.assign(first_words_.size() * groups * padded_outputs_, -1);
    for (std::size_t c = 0; c < first_words_.size(); ++c) {
        for (std::size_t channel = 0; channel < conv.channels; ++channel)
            limits_[c * groups * padded_outputs_ + slot(channel)] = limit(c, channel, dense_words(c));
    }
}

void Stage::derive_pool_rows() {
    pool_rows_.assign(conv.channels * row_words, 0);
    for (std::size_t channel = 0; channel < conv.channels; ++channel)
        std::copy_n(rows.data() + channel * words, words, pool_rows_.data() + channel * row_words);
    const std::size_t padded = out.pixel_words() * kWordBits;
    row_limits_.assign(first_words_.size() * padded, -1);
    for (std::size_t c = 0; c < first_words_.size(); ++c) {
        for (std::size_t channel = 0; channel < conv.channels; ++channel)
            row_limits_[c * padded + channel] = limit(c, channel, {0, words});
    }
}

}  // namespace o3bnn
