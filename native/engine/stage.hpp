// A stage as the engine runs it: what Python's validated network says, and what is derived from it once.
#pragma once

#include <string>
#include <vector>

#include "dispatch.hpp"
#include "engine/aligned.hpp"
#include "engine/exits.hpp"
#include "engine/method.hpp"
#include "engine/octets.hpp"
#include "engine/tables.hpp"

namespace o3bnn {

/// A feature map, NHWC. Bits are packed per pixel; see src/o3bnn/model/packing.py.
struct Shape {
    std::size_t height = 1, width = 1, channels = 1;

    std::size_t positions() const { return height * width; }
    std::size_t elements() const { return positions() * channels; }
    std::size_t pixel_words() const { return word_count(channels); }
    std::size_t words() const { return positions() * pixel_words(); }
};

struct Extent {
    std::size_t rows = 1, columns = 1;
};

/// What Python hands over. Array shapes are checked on the way (bindings); the values are those of a validated network.
struct StageSpec {
    Shape in;    ///< a dense stage reads it flattened: 1 x 1 x features
    Shape conv;  ///< neurons, before pooling
    Extent kernel, stride;
    std::size_t top = 0, left = 0;  ///< padding
    std::size_t groups = 1;
    Extent pool_size, pool_stride;  ///< 1 x 1 each where there is no pooling
    bool integer_input = false;
    Method method = Method::dense;
    std::vector<std::size_t> checks;  ///< of Method::threshold: words of a patch, increasing
    std::int32_t magnitude = 1;
    std::vector<Word> weights;             ///< [channels][words]
    std::vector<std::int32_t> thresholds;  ///< [classes][channels]
    std::vector<std::int8_t> constant;     ///< [classes][channels] -1, 0, 1
    std::vector<std::uint8_t> decisive;    ///< [channels]
    std::vector<std::int32_t> class_map;   ///< [conv positions]
    std::vector<Word> exists;              ///< [classes][words]
};

/// Columns begin .. end - 1 of a map.
struct ColumnRange {
    std::size_t begin, end;
};

class Stage {
  public:
    /// table: the input encoding, [256]; of the first stage only.
    Stage(const StageSpec& spec, const Isa& isa, const std::int16_t* table);
    Stage(const Stage&) = delete;  // `runs_` points into `run_lists_`
    Stage(Stage&&) = default;

    Shape in, conv, out;
    Extent kernel, stride, pool_size, pool_stride;
    std::size_t top, left, groups;
    bool integer_input;
    Method method;
    std::int32_t magnitude;

    const BinaryKernel* binary;
    const IntegerKernel* integer;

    std::size_t group_inputs, group_outputs;  ///< channels of one group
    std::size_t full_fan_in, words;           ///< edges of a full kernel, and the words that hold them
    std::size_t row_words;                    ///< words rounded up to kRowStep
    std::size_t integer_stride;               ///< elements of an integer patch

    std::vector<Word> rows;            ///< weights [channels][words]; none for integers
    std::vector<std::int8_t> signs;    ///< weights -1, +1 [channels][integer_stride]; integers only
    std::vector<Word> decisive;        ///< [out pixel words]
    std::vector<Word> channel_mask;    ///< [out pixel words] ones for the channels that exist
    std::uint64_t dense_edges = 0;     ///< of one image, over all neurons that a window reads
    std::uint64_t constant_edges = 0;  ///< those of constant neurons

    /// What runs: operands, method unless it is dense, instruction set; such as `conv_b1_pooling_avx512`.
    std::string kernel_name;
    /// Set iff the stage is to be run on octets.
    std::optional<OctetForm> octets;
    /// Set iff it is to be run on octets by look-up.
    std::optional<TableForm> tables;
    /// Set iff the method is Method::threshold.
    std::optional<ExitForm> exits;

    std::size_t border_classes() const { return first_words_.size(); }
    bool pools() const { return pool_size.rows * pool_size.columns > 1 || pool_stride.rows * pool_stride.columns > 1; }
    bool windows_overlap() const {
        return pool_stride.rows < pool_size.rows || pool_stride.columns < pool_size.columns;
    }
    /// Rows and columns of the input that are read, with padding.
    std::size_t padded_height() const { return (conv.height - 1) * stride.rows + kernel.rows; }
    std::size_t padded_width() const { return (conv.width - 1) * stride.columns + kernel.columns; }
    /// Whether a copy of the input with its padding costs little. (Nothing bounds the padding of a valid network.)
    bool padding_is_small() const {
        constexpr std::size_t kGrowth = 8;
        return padded_height() / kGrowth <= in.height && padded_width() / kGrowth <= in.width;
    }
    bool reads_row(std::size_t y) const { return reads(y, pool_size.rows, pool_stride.rows, out.height); }
    bool reads_column(std::size_t x) const { return reads(x, pool_size.columns, pool_stride.columns, out.width); }

    std::size_t border_class(std::size_t position) const { return static_cast<std::size_t>(class_map_[position]); }
    std::int32_t fan_in(std::size_t c) const { return seen_[(c + 1) * words - 1]; }
    std::size_t first_word(std::size_t c) const { return first_words_[c]; }
    /// The words that a dense or pooling kernel evaluates in a border class: those with edges that exist.
    const WordRuns* runs(std::size_t c) const { return &runs_[class_runs_[c]]; }
    /// Columns begin .. end - 1 of neurons that have the same runs wherever they are in the same row.
    const std::vector<ColumnRange>& bands() const { return bands_; }
    const Word* exists(std::size_t c) const { return exists_.data() + c * words; }
    const std::int32_t* seen(std::size_t c) const { return seen_.data() + c * words; }
    const std::int32_t* thresholds(std::size_t c) const { return thresholds_.data() + c * conv.channels; }
    const Word* constant_mask(std::size_t c) const { return constant_masks_.data() + c * out.pixel_words(); }
    const Word* constant_bits(std::size_t c) const { return constant_bits_.data() + c * out.pixel_words(); }
    const std::int32_t* limits(std::size_t c, std::size_t group) const {
        return limits_.data() + (c * groups + group) * padded_outputs_;
    }
    /// Weights for a dense kernel, lanes interleaved: [lane blocks][words][lanes].
    const Word* group_blocks(std::size_t group) const { return blocks_.data() + group * padded_outputs_ * words; }
    /// Weights and limits for a pooling kernel: [channels][row_words] and, twice, [channels in whole words].
    const Word* pool_rows() const { return pool_rows_.data(); }
    const std::int32_t* row_limits(std::size_t c) const {
        return row_limits_.data() + c * out.pixel_words() * kWordBits;
    }
    const std::int16_t* narrow_limits(std::size_t c) const {
        return narrow_limits_.data() + c * out.pixel_words() * kWordBits;
    }
    /// Dense weights for integers, lanes interleaved: [lane blocks][edges][lanes].
    const std::int16_t* group_sign_blocks(std::size_t group) const {
        return sign_blocks_.data() + group * padded_outputs_ * full_fan_in;
    }

  private:
    static bool reads(std::size_t index, std::size_t size, std::size_t step, std::size_t count) {
        return index / step < count ? index % step < size : index < (count - 1) * step + size;
    }
    void derive_classes(const StageSpec& spec);
    void derive_channels(const StageSpec& spec);
    void count_edges();
    void expand_signs(const StageSpec& spec);
    void interleave();
    void derive_runs();
    void derive_bands();
    std::vector<WordRange> class_runs(std::size_t c) const;
    std::vector<WordRange> kernel_rows_run(std::size_t c) const;
    void derive_limits();
    void derive_pool_rows();
    std::int32_t limit(std::size_t c, std::size_t channel) const;
    std::size_t slot(std::size_t channel) const {
        return channel / group_outputs * padded_outputs_ + channel % group_outputs;
    }

    std::size_t padded_outputs_ = 0;  ///< channels of a group, rounded up to whole lane blocks
    std::vector<std::int32_t> class_map_, seen_, thresholds_, limits_;
    std::vector<Word> exists_, constant_masks_, constant_bits_;
    AlignedVector<Word> blocks_, pool_rows_;
    AlignedVector<std::int16_t> sign_blocks_;
    std::vector<std::size_t> first_words_;
    std::vector<std::vector<WordRange>> run_lists_;  ///< the different ones
    std::vector<WordRuns> runs_;                     ///< of each list
    std::vector<std::size_t> class_runs_;            ///< [classes] which list
    std::vector<ColumnRange> bands_;
    std::vector<std::int32_t> row_limits_;
    std::vector<std::int16_t> narrow_limits_;
};

}  // namespace o3bnn
