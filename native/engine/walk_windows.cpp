#include <algorithm>

#include "engine/patch.hpp"
#include "engine/walk.hpp"

namespace o3bnn {
namespace {

/// Collects pooling windows and hands them to the kernel, as many at a time as it takes.
class WindowWalk {
  public:
    WindowWalk(const Stage& stage, const Operand& operand, Word* out, Scratch& scratch)
        : stage_(stage),
          operand_(operand),
          out_(out),
          positions_(stage.pool_size.rows * stage.pool_size.columns),
          capacity_(stage.binary->tile),
          patches_(room(scratch.patches, positions_ * capacity_ * stage.row_words)),
          tiles_(positions_ * capacity_) {}

    void run(const Part& part) {
        for (std::size_t wy = part.row; wy < part.rows_end; ++wy) {
            for (std::size_t wx = 0; wx < stage_.out.width; ++wx) {
                windows_[pending_++] = {wy, wx};
                if (pending_ == capacity_) flush();
            }
        }
        flush();
    }

  private:
    struct Window {
        std::size_t y, x;
    };

    void flush() {
        if (pending_ == 0) return;
        Word* results[kMaxTile];
        for (std::size_t i = 0; i < pending_; ++i)
            results[i] = out_ + (windows_[i].y * stage_.out.width + windows_[i].x) * stage_.out.pixel_words();
        for (std::size_t position = 0; position < positions_; ++position) {
            for (std::size_t i = 0; i < pending_; ++i) tiles_[position * pending_ + i] = tile(position, i);
        }
        stage_.binary->pool({tiles_.data(), positions_, pending_, results, stage_.group_blocks(0), stage_.words,
                             stage_.pool_rows(), stage_.row_words, stage_.decisive.data(), stage_.channel_mask.data(),
                             stage_.conv.channels});
        pending_ = 0;
    }

    PoolTile tile(std::size_t position, std::size_t i) {
        const std::size_t y = windows_[i].y * stage_.pool_stride.rows + position / stage_.pool_size.columns;
        const std::size_t x = windows_[i].x * stage_.pool_stride.columns + position % stage_.pool_size.columns;
        const std::size_t c = stage_.border_class(y * stage_.conv.width + x);
        Word* patch = patches_ + (position * capacity_ + i) * stage_.row_words;
        if (operand_.padded)
            gather_padded(stage_, operand_.padded, y, x, patch);
        else
            gather_bits(stage_, operand_.bits, y, x, 0, patch);
        std::fill(patch + stage_.words, patch + stage_.row_words, Word{0});
        return {patch, stage_.row_limits(c), stage_.narrow_limits(c), stage_.runs(c)};
    }

    const Stage& stage_;
    const Operand& operand_;
    Word* out_;
    std::size_t positions_, capacity_;
    Word* patches_;
    std::vector<PoolTile> tiles_;
    Window windows_[kMaxTile] = {};
    std::size_t pending_ = 0;
};

}  // namespace

void walk_windows(const Stage& stage, const Operand& operand, const Part& part, Word* out, Scratch& scratch) {
    WindowWalk(stage, operand, out, scratch).run(part);
}

}  // namespace o3bnn
