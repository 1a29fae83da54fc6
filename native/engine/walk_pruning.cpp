#include <algorithm>

#include "engine/patch.hpp"
#include "engine/walk.hpp"
#include "kernels/popcount.hpp"

namespace o3bnn {
namespace {

class PruningWalk {
  public:
    PruningWalk(const Stage& stage, const PruneKernels& kernels, const Operand& operand, Word* out, Scratch& scratch)
        : stage_(stage),
          kernels_(kernels),
          operand_(operand),
          out_(out),
          per_pixel_(stage.out.pixel_words()),
          overlap_(stage.windows_overlap()) {
        if (stage.integer_input)
            integer_patch_ = room(scratch.integer_patches, stage.integer_stride);
        else
            patch_ = room(scratch.patches, stage.words);
        asked_ = room(scratch.asked, 2 * per_pixel_);
        open_ = asked_ + per_pixel_;
        fired_ = room(scratch.fired, per_pixel_);
        settled_ = room(scratch.settled, stage.out.words());
        std::fill_n(settled_, stage.out.words(), Word{0});
        if (overlap_) {
            visited_ = room(scratch.visited, stage.conv.words());
            std::fill_n(visited_, stage.conv.words(), Word{0});
        }
        workspace_ = room(scratch.workspace, kernels.workspace);
    }

    void run() {
        for (std::size_t wy = 0; wy < stage_.out.height; ++wy) {
            for (std::size_t wx = 0; wx < stage_.out.width; ++wx) window(wy, wx);
        }
        for (std::size_t pixel = 0; pixel < stage_.out.positions(); ++pixel) {
            for (std::size_t i = 0; i < per_pixel_; ++i) {
                const std::size_t at = pixel * per_pixel_ + i;
                out_[at] = ~(settled_[at] ^ stage_.decisive[i]) & stage_.channel_mask[i];
            }
        }
    }

  private:
    void window(std::size_t wy, std::size_t wx) {
        const std::size_t top = wy * stage_.pool_stride.rows, left = wx * stage_.pool_stride.columns;
        const Word* settled = settled_ + (wy * stage_.out.width + wx) * per_pixel_;
        for (std::size_t y = top; y < top + stage_.pool_size.rows; ++y) {
            for (std::size_t x = left; x < left + stage_.pool_size.columns; ++x) {
                if (ask(y, x, settled)) visit(y, x);
            }
        }
    }

    /// Channels that the window still needs at this position; whether there are any.
    bool ask(std::size_t y, std::size_t x, const Word* settled) {
        Word any = 0;
        for (std::size_t i = 0; i < per_pixel_; ++i) {
            asked_[i] = ~settled[i] & stage_.channel_mask[i];
            if (overlap_) {
                Word& visited = visited_[(y * stage_.conv.width + x) * per_pixel_ + i];
                asked_[i] &= ~visited;
                visited |= asked_[i];
            }
            any |= asked_[i];
        }
        return any != 0;
    }

    void visit(std::size_t y, std::size_t x) {
        evaluate(y, x);
        for (std::size_t i = 0; i < per_pixel_; ++i) fired_[i] = asked_[i] & ~(fired_[i] ^ stage_.decisive[i]);
        const Extent &size = stage_.pool_size, &step = stage_.pool_stride;
        const std::size_t last_row = std::min(y / step.rows, stage_.out.height - 1);
        const std::size_t last_column = std::min(x / step.columns, stage_.out.width - 1);
        for (std::size_t wy = first_window(y, size.rows, step.rows); wy <= last_row; ++wy) {
            for (std::size_t wx = first_window(x, size.columns, step.columns); wx <= last_column; ++wx) {
                Word* settled = settled_ + (wy * stage_.out.width + wx) * per_pixel_;
                for (std::size_t i = 0; i < per_pixel_; ++i) settled[i] |= fired_[i];
            }
        }
    }

    /// The first window along an axis that contains `index`.
    static std::size_t first_window(std::size_t index, std::size_t size, std::size_t step) {
        return index < size ? 0 : (index - size) / step + 1;
    }

    /// fired_ = the bits of the asked channels; constant neurons give theirs at no cost.
    void evaluate(std::size_t y, std::size_t x) {
        const std::size_t c = stage_.border_class(y * stage_.conv.width + x);
        for (std::size_t i = 0; i < per_pixel_; ++i) {
            fired_[i] = asked_[i] & stage_.constant_bits(c)[i];
            open_[i] = asked_[i] & ~stage_.constant_mask(c)[i];
        }
        for (std::size_t group = 0; group < stage_.groups; ++group) {
            if (!any_open(group)) continue;
            if (stage_.integer_input)
                integer_group(y, x, c, group);
            else
                binary_group(y, x, c, group);
        }
    }

    bool any_open(std::size_t group) const {
        const std::size_t begin = group * stage_.group_outputs, end = begin + stage_.group_outputs;
        for (std::size_t i = begin / kWordBits; i < word_count(end); ++i) {
            if (open_[i] & range_mask(i, begin, end)) return true;
        }
        return false;
    }

    PruneTask task(std::size_t c, std::size_t group) const {
        const std::size_t begin = group * stage_.group_outputs;
        return {stage_.words,
                stage_.first_word(c),
                stage_.exists(c),
                stage_.seen(c),
                stage_.fan_in(c),
                stage_.thresholds(c),
                begin,
                begin + stage_.group_outputs,
                open_,
                fired_,
                kernels_.counts,
                kernels_.word,
                workspace_};
    }

    void binary_group(std::size_t y, std::size_t x, std::size_t c, std::size_t group) {
        gather_bits(stage_, operand_.bits, y, x, group, patch_);
        kernels_.binary({task(c, group), patch_, stage_.rows.data()});
    }

    void integer_group(std::size_t y, std::size_t x, std::size_t c, std::size_t group) {
        gather_integers(stage_, operand_.integers, y, x, group, integer_patch_);
        kernels_.integer(
            {task(c, group), integer_patch_, stage_.signs.data(), stage_.integer_stride, stage_.magnitude});
    }

    const Stage& stage_;
    const PruneKernels& kernels_;
    const Operand& operand_;
    Word* out_;
    std::size_t per_pixel_;
    bool overlap_;
    Word* patch_ = nullptr;
    std::int16_t* integer_patch_ = nullptr;
    Word *asked_, *open_, *fired_, *settled_;
    Word* visited_ = nullptr;
    std::int32_t* workspace_;
};

}  // namespace

void walk_pruning(const Stage& stage, const PruneKernels& kernels, const Operand& operand, Word* out,
                  Scratch& scratch) {
    PruningWalk(stage, kernels, operand, out, scratch).run();
}

}  // namespace o3bnn
