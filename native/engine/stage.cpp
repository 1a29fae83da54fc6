#include "engine/stage.hpp"

#include <algorithm>
#include <bit>
#include <limits>
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
    if (octets) tables = TableForm::of(*this, *octets);
    if (tables) kernel_name = std::string("conv_int_tables_") + isa.name;
    if (octets) return;
    interleave();
    if (integer_input) return;
    derive_runs();
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

/// From the first kernel row of which an edge exists to the last: the same for all positions of a row.
std::vector<WordRange> Stage::kernel_rows_run(std::size_t c) const {
    const std::size_t row = kernel.columns * group_inputs;
    const auto some = [&](std::size_t word) { return exists(c)[word] != 0; };
    std::size_t first = 0, last = words;
    while (first < words && !some(first)) ++first;
    if (first == words) return {};
    while (!some(last - 1)) --last;
    const auto begin = first * kWordBits + static_cast<std::size_t>(std::countr_zero(exists(c)[first]));
    const auto end = last * kWordBits - static_cast<std::size_t>(std::countl_zero(exists(c)[last - 1]));
    return {{begin / row * row / kWordBits, word_count(round_up(end, row))}};
}

/// The words of a border class in which an edge exists; for a pooling kernel in whole steps, one at least.
std::vector<WordRange> Stage::class_runs(std::size_t c) const {
    if (!binary->mixes_runs && method == Method::pooling) return {{0, words}};
    if (!binary->mixes_runs) return kernel_rows_run(c);
    const std::size_t step = method == Method::pooling ? kRowStep : 1;
    std::vector<WordRange> found;
    for (std::size_t begin = 0; begin < words; begin += step) {
        const std::size_t end = std::min(begin + step, words);
        if (std::none_of(exists(c) + begin, exists(c) + end, [](Word word) { return word != 0; })) continue;
        if (!found.empty() && found.back().end == begin)
            found.back().end = end;
        else
            found.push_back({begin, end});
    }
    if (found.empty() && method == Method::pooling) found.push_back({0, std::min(step, words)});
    return found;
}

void Stage::derive_runs() {
    for (std::size_t c = 0; c < border_classes(); ++c) {
        const std::vector<WordRange> found = class_runs(c);
        const auto known = std::find(run_lists_.begin(), run_lists_.end(), found);
        class_runs_.push_back(static_cast<std::size_t>(known - run_lists_.begin()));
        if (known == run_lists_.end()) run_lists_.push_back(found);
    }
    for (const std::vector<WordRange>& list : run_lists_) runs_.push_back({list.data(), list.size()});
    derive_bands();
}

void Stage::derive_bands() {
    const auto differ = [&](std::size_t x) {
        for (std::size_t y = 0; y < conv.height; ++y) {
            if (runs(border_class(y * conv.width + x)) != runs(border_class(y * conv.width + x - 1))) return true;
        }
        return false;
    };
    bands_ = {{0, 1}};
    for (std::size_t x = 1; x < conv.width; ++x) {
        if (differ(x)) bands_.push_back({x, x});
        bands_.back().end = x + 1;
    }
}

/// A patch holds zeros where edges do not exist, so there a weight of one is a mismatch that does not count:
///     m = K - (popcount(patch ^ row) - absent ones of the row) >= t   iff   popcount(patch ^ row) <= K + absent - t
/// over the words that are evaluated.
std::int32_t Stage::limit(std::size_t c, std::size_t channel) const {
    std::int32_t absent = 0;
    if (static_cast<std::size_t>(fan_in(c)) < full_fan_in) {
        for (const auto& [begin, end] : run_lists_[class_runs_[c]]) {
            for (std::size_t word = begin; word < end; ++word)
                absent += popcount(rows[channel * words + word] & ~exists(c)[word]);
        }
    }
    return fan_in(c) + absent - thresholds(c)[channel];
}

void Stage::derive_limits() {
    limits_.assign(first_words_.size() * groups * padded_outputs_, -1);
    for (std::size_t c = 0; c < first_words_.size(); ++c) {
        for (std::size_t channel = 0; channel < conv.channels; ++channel)
            limits_[c * groups * padded_outputs_ + slot(channel)] = limit(c, channel);
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
            row_limits_[c * padded + channel] = limit(c, channel);
    }
    using Narrow = std::numeric_limits<std::int16_t>;
    for (const std::int32_t limit : row_limits_)
        narrow_limits_.push_back(static_cast<std::int16_t>(std::clamp<std::int32_t>(limit, -1, Narrow::max())));
}

}  // namespace o3bnn
