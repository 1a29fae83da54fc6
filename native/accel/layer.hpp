// One stage as the machine sees it: windows and their patches, and what a neuron's edge words hold.
#pragma once

#include "accel/config.hpp"

namespace o3bnn::accel {

/// A stage's operand or result, [images][rows][columns][channels]: bits, or the unsigned integers of T2.
using Map = std::vector<std::uint16_t>;

/// A map's bit planes, most significant first, channels packed: [images][rows][columns][planes][words].
struct PackedMap {
    std::vector<Word> bits;
    int words = 0;  ///< of a pixel and plane
};

/// The operand of a window's neurons: [positions][groups][planes][edge words][limbs], and each position's border class.
struct Patch {
    std::vector<Word> bits;
    std::vector<int> classes;
};

/// What evaluating a neuron word by word would show; `words` and all indices count existing words (T1), planes
/// included.
struct Evaluation {
    int words = 0, decided_at = 0;
    int back_to_back = 0;  ///< T8: words before this one are always ready
    bool bit = false;
    std::int64_t score = 0;  ///< of the words that were evaluated
    std::int64_t edges = 0, decided_edges = 0;
    /// T8: word q < decided_at is ready once all but waits[q] of the words before it are known.
    std::vector<std::uint8_t> waits;
};

/// Memory of `Layer::evaluate`: scores and bounds after 0, 1, ... words.
struct Scratch {
    std::vector<std::int64_t> scores, low, high;
};

class Layer {
  public:
    /// Plan and config stay with the caller, who keeps them as long as the layer.
    Layer(const StagePlan& plan, const Config& config);

    const StagePlan& plan() const { return plan_; }

    PackedMap pack(const Map& map) const;

    /// Gathers the patch of a window from the stage's operand.
    void gather(const PackedMap& map, int window, Patch& patch) const;

    /// Evaluates a neuron: to its decision where `prune`, else all of it.
    void evaluate(const Patch& patch, int position, int channel, Scratch& scratch, Evaluation& result) const;

    /// Edges (plane edges) and words of a neuron of a border class.
    std::int64_t edges(int border) const { return classes_[static_cast<std::size_t>(border)].edges.back(); }
    /// Edges in the first `words` words of a neuron.
    std::int64_t edges_after(int border, int words) const {
        return classes_[static_cast<std::size_t>(border)].edges[static_cast<std::size_t>(words)];
    }
    int words(int border) const {
        return static_cast<int>(classes_[static_cast<std::size_t>(border)].index.size()) * plan_.planes;
    }
    int max_words() const { return max_words_; }

    /// -1, or the bit of a neuron that is constant (T4).
    int constant(int border, int channel) const;

    /// First row of a window, and the border class there; rows of a batch's images follow one another.
    int window_row(int window) const {
        return window / plan_.image_windows() * plan_.rows + window_row_in_image(window);
    }
    int window_column(int window) const { return window % plan_.out_columns() * plan_.pool_stride.columns; }
    int border(int row, int column) const {
        return plan_.class_map[static_cast<std::size_t>(row % plan_.rows * plan_.columns + column)];
    }
    bool read(int row, int column) const {
        return rows_read_[static_cast<std::size_t>(row)] && columns_read_[static_cast<std::size_t>(column)];
    }
    /// Full-kernel index of the q-th word of a neuron of a border class.
    int word_index(int border, int q) const {
        const auto& index = classes_[static_cast<std::size_t>(border)].index;
        const auto k = static_cast<std::size_t>(q);
        return index[k < index.size() ? k : k % index.size()];
    }

    /// T30: the first of the operand's elements that a window reads, or it and all windows after it.
    std::int64_t first_read(int window) const;
    std::int64_t first_read_from(int window) const;
    /// T30: the operand's elements up to the last one that a window reads.
    std::int64_t last_read(int window) const;
    std::int64_t elements() const { return std::int64_t{plan_.images} * image_elements(); }

    /// T18: words of a window's patch, and how many of them the window to its left shares.
    int patch_words(int window) const;
    int shared_words(int window) const;

  private:
    std::int64_t image_elements() const {
        return std::int64_t{plan_.in_rows} * plan_.in_columns * plan_.in_channels;
    }
    int window_row_in_image(int window) const {
        return window % plan_.image_windows() / plan_.out_columns() * plan_.pool_stride.rows;
    }
    struct Border {
        std::vector<int> index;                 ///< full-kernel words that exist
        std::vector<std::int64_t> edges, most;  ///< after 0, 1, ... words: edges so far, weight that remains
        std::vector<int> first_open;            ///< [channels] words after which a decision is possible, simple bounds
    };
    struct Span {
        int first, last;
    };
    /// What remains, at most and at least, after 0 .. words words.
    struct Bounds {
        const std::int64_t *most, *least;
        std::int64_t threshold;

        bool decide(std::int64_t score, int words) const {
            return score + least[words] >= threshold || score + most[words] < threshold;
        }
        /// Whether the words known + 1 .. issued might decide, whatever they hold, after a score of the known ones.
        bool may_decide(std::int64_t score, int known, int issued) const {
            return score + most[known] - most[issued] + least[issued] >= threshold ||
                   score + least[known] - least[issued] + most[issued] < threshold;
        }
    };

    void gather_position(const PackedMap& map, int image, int row, int column, int group, Word* bits) const;
    void put_bits(Word* bits, int edge, Word value, int count) const;
    int first_open(const Border& border, std::int64_t threshold) const;
    Bounds sharp_bounds(const Word* x, const Word* w, int border, Scratch& scratch) const;
    Span input_rows(int window) const;
    Span input_columns(int window) const;
    int column_words(int window, int column) const;
    /// T18: whether patches are kept as pixels, in half words.
    bool aligned() const { return 2 * (plan_.in_channels / plan_.groups) % config_.word == 0; }

    const StagePlan& plan_;
    const Config& config_;
    std::vector<Border> classes_;
    std::vector<std::uint8_t> rows_read_, columns_read_;
    std::vector<std::int64_t> zeros_;
    int max_words_ = 0;
};

}  // namespace o3bnn::accel
