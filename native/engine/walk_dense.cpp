#include <algorithm>

#include "engine/patch.hpp"
#include "engine/walk.hpp"

namespace o3bnn {
namespace {

/// Runs a dense kernel over positions, as many at a time as it takes.
class DenseWalk {
  public:
    DenseWalk(const Stage& stage, const Operand& operand, const Part& part, Word* neurons, Scratch& scratch)
        : stage_(stage),
          operand_(operand),
          part_(part),
          neurons_(neurons),
          tile_(stage.integer_input ? stage.integer->tile : stage.binary->tile),
          group_words_(word_count(stage.group_outputs)) {
        if (stage.octets)
            octet_patches_ = room(scratch.octet_patches, tile_ * stage.octets->patch_octets);
        else if (stage.integer_input)
            integer_patches_ = room(scratch.integer_patches, tile_ * stage.integer_stride);
        else
            patches_ = room(scratch.patches, tile_ * stage.words);
        group_fired_ = room(scratch.group_fired, tile_ * group_words_);
    }

    void run() {
        if (stage_.integer_input) {
            band({0, stage_.conv.width});
        } else {
            for (const ColumnRange& columns : stage_.bands()) band(columns);
        }
        flush();
    }

  private:
    struct Spot {
        std::size_t y, x;
    };

    /// Whether a position may be in the same call as those that are pending.
    bool goes_with_last(std::size_t y, std::size_t x) const {
        if (stage_.integer_input || stage_.binary->mixes_runs) return true;
        const auto runs = [&](std::size_t at) { return stage_.runs(stage_.border_class(at)); };
        return runs(y * stage_.conv.width + x) == runs(position(pending_ - 1));
    }

    void band(const ColumnRange& columns) {
        for (std::size_t y = part_.row; y < part_.rows_end; ++y) {
            if (!stage_.reads_row(y)) continue;
            for (std::size_t x = columns.begin; x < columns.end; ++x) {
                if (!stage_.reads_column(x)) continue;
                if (pending_ > 0 && !goes_with_last(y, x)) flush();
                spots_[pending_++] = {y, x};
                if (pending_ == tile_) flush();
            }
        }
    }

    void flush() {
        if (pending_ == 0) return;
        for (std::size_t group = 0; group < stage_.groups; ++group) {
            if (stage_.octets)
                octets();
            else if (stage_.integer_input)
                integer_group(group);
            else
                binary_group(group);
            if (stage_.groups > 1) merge_group(group);
        }
        pending_ = 0;
    }

    std::size_t position(std::size_t tile) const { return spots_[tile].y * stage_.conv.width + spots_[tile].x; }

    bool splits_channels() const { return part_.channels_end - part_.channel < stage_.conv.channels; }

    /// First channel of a group's part, and their number.
    std::size_t first_channel(std::size_t group) const { return group * stage_.group_outputs + part_.channel; }
    std::size_t channels() const {
        return splits_channels() ? part_.channels_end - part_.channel : stage_.group_outputs;
    }

    Word* pixel(std::size_t tile) const { return neurons_ + position(tile) * stage_.out.pixel_words(); }

    /// Where the kernel writes: the pixel itself, or aside where a pixel has several groups.
    Word* fired(std::size_t tile) const {
        return stage_.groups == 1 ? pixel(tile) + part_.channel / kWordBits : group_fired_ + tile * group_words_;
    }

    void binary_group(std::size_t group) {
        BinaryTile tiles[kMaxTile];
        for (std::size_t i = 0; i < pending_; ++i) {
            Word* patch = patches_ + i * stage_.words;
            if (operand_.padded)
                gather_padded(stage_, operand_.padded, spots_[i].y, spots_[i].x, patch);
            else
                gather_bits(stage_, operand_.bits, spots_[i].y, spots_[i].x, group, patch);
            const std::size_t c = stage_.border_class(position(i));
            tiles[i] = {patch, stage_.limits(c, group) + part_.channel, fired(i), stage_.runs(c)};
        }
        const Word* blocks = stage_.group_blocks(group) + part_.channel * stage_.words;
        const BinaryDenseTask task = {tiles, pending_, blocks, stage_.words, channels()};
        if (stage_.method != Method::threshold) return stage_.binary->dense(task);
        ExitTile exits[kMaxTile];
        for (std::size_t i = 0; i < pending_; ++i)
            exits[i] = stage_.exits->tile(stage_.border_class(position(i)), group, part_.channel);
        stage_.binary->exits(task, stage_.exits->checks(exits));
    }

    void integer_group(std::size_t group) {
        IntegerTile tiles[kMaxTile];
        const std::size_t first = first_channel(group);
        for (std::size_t i = 0; i < pending_; ++i) {
            std::int16_t* patch = integer_patches_ + i * stage_.integer_stride;
            gather_integers(stage_, operand_.integers, spots_[i].y, spots_[i].x, group, patch);
            tiles[i] = {patch, stage_.thresholds(stage_.border_class(position(i))) + first, fired(i)};
        }
        const std::int16_t* blocks = stage_.group_sign_blocks(group) + part_.channel * stage_.full_fan_in;
        stage_.integer->dense({tiles, pending_, blocks, stage_.full_fan_in, channels(), stage_.magnitude});
    }

    void octets() {
        const OctetForm& form = *stage_.octets;
        OctetTile tiles[kMaxTile];
        for (std::size_t i = 0; i < pending_; ++i) {
            std::uint8_t* patch = octet_patches_ + i * form.patch_octets;
            form.gather(operand_.octets, spots_[i].y, spots_[i].x, patch);
            tiles[i] = {patch, form.limits(stage_.border_class(position(i))) + part_.channel, fired(i)};
        }
        const std::int8_t* blocks = form.blocks() + part_.channel * form.steps * kOctetStep;
        stage_.integer->octets({tiles, pending_, blocks, form.steps, channels()});
    }

    void merge_group(std::size_t group) {
        for (std::size_t i = 0; i < pending_; ++i) {
            if (group == 0) std::fill_n(pixel(i), stage_.out.pixel_words(), Word{0});
            append_bits(pixel(i), group * stage_.group_outputs, fired(i), 0, stage_.group_outputs);
        }
    }

    const Stage& stage_;
    const Operand& operand_;
    const Part& part_;
    Word* neurons_;
    std::size_t tile_, group_words_;
    Word* patches_ = nullptr;
    std::int16_t* integer_patches_ = nullptr;
    std::uint8_t* octet_patches_ = nullptr;
    Word* group_fired_;
    Spot spots_[kMaxTile] = {};
    std::size_t pending_ = 0;
};

}  // namespace

void walk_neurons(const Stage& stage, const Operand& operand, const Part& part, Word* neurons, Scratch& scratch) {
    if (stage.tables && operand.octets) return walk_tables(stage, operand, part, neurons, scratch);
    DenseWalk(stage, operand, part, neurons, scratch).run();
}

/// OR over each window where the decisive bit is 1, AND where it is 0.
void pool_neurons(const Stage& stage, const Part& part, const Word* neurons, Word* out) {
    const std::size_t per_pixel = stage.out.pixel_words();
    out += part.row * stage.out.width * per_pixel;
    for (std::size_t wy = part.row; wy < part.rows_end; ++wy) {
        for (std::size_t wx = 0; wx < stage.out.width; ++wx, out += per_pixel) {
            std::fill_n(out, per_pixel, Word{0});
            for (std::size_t y = wy * stage.pool_stride.rows; y < wy * stage.pool_stride.rows + stage.pool_size.rows;
                 ++y) {
                const Word* pixel = neurons + (y * stage.conv.width + wx * stage.pool_stride.columns) * per_pixel;
                for (std::size_t x = 0; x < stage.pool_size.columns; ++x, pixel += per_pixel) {
                    for (std::size_t i = 0; i < per_pixel; ++i) out[i] |= ~(pixel[i] ^ stage.decisive[i]);
                }
            }
            for (std::size_t i = 0; i < per_pixel; ++i) out[i] = ~(out[i] ^ stage.decisive[i]) & stage.channel_mask[i];
        }
    }
}

void walk_dense(const Stage& stage, const Operand& operand, const Part& part, Word* out, Scratch& scratch) {
    if (!stage.pools()) return walk_neurons(stage, operand, part, out, scratch);
    Word* neurons = room(scratch.neurons, stage.conv.words());
    walk_neurons(stage, operand, part.before_pooling(stage), neurons, scratch);
    pool_neurons(stage, part, neurons, out);
}

}  // namespace o3bnn
