#include "engine/octets.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "engine/stage.hpp"

namespace o3bnn {
namespace {

constexpr std::int32_t kGreatest = 255;
constexpr std::size_t kMaxEdges = std::numeric_limits<std::int32_t>::max() / kGreatest - 1;

}  // namespace

OctetForm::OctetForm(const Stage& stage)
    : steps((stage.full_fan_in + kOctetStep - 1) / kOctetStep),
      patch_octets(round_up(stage.full_fan_in, kSlack) + kSlack),
      row_(stage.padded_width() * stage.in.channels),
      height_(stage.padded_height()),
      kernel_rows_(stage.kernel.rows),
      run_(stage.kernel.columns * stage.in.channels),
      down_(stage.stride.rows * row_),
      right_(stage.stride.columns * stage.in.channels),
      top_(stage.top),
      left_(stage.left * stage.in.channels),
      image_rows_(stage.in.height),
      image_row_(stage.in.width * stage.in.channels),
      padded_outputs_(round_up(stage.conv.channels, stage.integer->octet_lanes)) {}

std::optional<OctetForm> OctetForm::of(const Stage& stage, const std::int16_t* table) {
    if (!stage.integer->octets || stage.groups > 1 || stage.full_fan_in > kMaxEdges || !stage.padding_is_small())
        return std::nullopt;
    OctetForm form(stage);
    if (!form.read_table(table)) return std::nullopt;
    form.interleave(stage);
    form.derive_limits(stage);
    return form;
}

bool OctetForm::read_table(const std::int16_t* table) {
    const auto [least, greatest] = std::minmax_element(table, table + 256);
    least_ = *least;
    step_ = 0;
    for (std::size_t pixel = 0; pixel < 256; ++pixel) step_ = std::gcd(step_, table[pixel] - least_);
    step_ = std::max(step_, 1);
    if (*greatest - least_ > kGreatest * step_) return false;
    for (std::size_t pixel = 0; pixel < 256; ++pixel)
        octets_[pixel] = static_cast<std::uint8_t>((table[pixel] - least_) / step_);
    identity_ = std::adjacent_find(octets_, octets_ + 256, std::greater_equal<>()) == octets_ + 256;
    return true;
}

void OctetForm::interleave(const Stage& stage) {
    const std::size_t lanes = stage.integer->octet_lanes;
    blocks_.assign(padded_outputs_ * steps * kOctetStep, 0);
    for (std::size_t channel = 0; channel < stage.conv.channels; ++channel) {
        std::int8_t* block = blocks_.data() + channel / lanes * lanes * steps * kOctetStep;
        for (std::size_t edge = 0; edge < stage.full_fan_in; ++edge) {
            const std::size_t at = (edge / kOctetStep * lanes + channel % lanes) * kOctetStep + edge % kOctetStep;
            block[at] = stage.signs[channel * stage.integer_stride + edge];
        }
    }
}

/// With W the sum of a neuron's existing weights:
///     sum of w x = step * sum of w u + least * W >= t    iff    sum of w u >= (t - least * W) / step, rounded up
void OctetForm::derive_limits(const Stage& stage) {
    const auto bound = kGreatest * static_cast<std::int64_t>(stage.full_fan_in);
    const std::size_t classes = stage.border_classes();
    limits_.assign(classes * padded_outputs_, std::numeric_limits<std::int32_t>::max());
    for (std::size_t c = 0; c < classes; ++c) {
        for (std::size_t channel = 0; channel < stage.conv.channels; ++channel) {
            std::int64_t weights = 0;
            for (std::size_t edge = 0; edge < stage.full_fan_in; ++edge) {
                const bool exists = stage.exists(c)[edge / kWordBits] >> (edge % kWordBits) & 1;
                weights += exists ? stage.signs[channel * stage.integer_stride + edge] : 0;
            }
            const std::int64_t needed = stage.thresholds(c)[channel] - least_ * weights;
            const std::int64_t limit = needed / step_ + (needed % step_ > 0);
            limits_[c * padded_outputs_ + channel] = static_cast<std::int32_t>(std::clamp(limit, -bound, bound + 1));
        }
    }
}

void OctetForm::encode(const std::uint8_t* image, std::uint8_t* map) const {
    const std::size_t left = std::min(left_, row_), inside = std::min(image_row_, row_ - left);
    for (std::size_t y = 0; y < height_; ++y, map += row_) {
        if (y < top_ || y - top_ >= image_rows_) {
            std::fill_n(map, row_, std::uint8_t{0});
            continue;
        }
        const std::uint8_t* pixels = image + (y - top_) * image_row_;
        std::fill_n(map, left, std::uint8_t{0});
        if (identity_)
            std::copy_n(pixels, inside, map + left);
        else
            std::transform(pixels, pixels + inside, map + left, [&](std::uint8_t pixel) { return octets_[pixel]; });
        std::fill(map + left + inside, map + row_, std::uint8_t{0});
    }
}

}  // namespace o3bnn
