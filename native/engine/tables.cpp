#include "engine/tables.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "engine/stage.hpp"
#include "kernels/popcount.hpp"

namespace o3bnn {
namespace {

constexpr std::int32_t kMiddle = 128;  // octets are summed up as u - kMiddle, so that sums stay small
constexpr std::size_t kGreatest = 255;

}  // namespace

TableForm::TableForm(const Stage& stage, const OctetForm& octets)
    : kernel_rows_(stage.kernel.rows),
      run_(octets.run()),
      right_(octets.right()),
      positions_(stage.conv.width),
      groups_((run_ + kTableOctets - 1) / kTableOctets),
      grain_(std::gcd(right_, kTableOctets)),
      position_step_(right_ / grain_),
      row_tables_((positions_ - 1) * position_step_ + (groups_ - 1) * (kTableOctets / grain_) + 1),
      channels_(stage.conv.channels),
      padded_outputs_(round_up(channels_, stage.integer->table_lanes)) {
    const std::size_t greatest = run_ * kMiddle + (groups_ * kTableOctets - run_) * kGreatest;  // of a kernel row
    stretch_ = std::min(kernel_rows_, std::numeric_limits<std::int16_t>::max() / greatest);
}

std::optional<TableForm> TableForm::of(const Stage& stage, const OctetForm& octets) {
    if (!stage.integer->by_tables || stage.conv.positions() == 1) return std::nullopt;
    TableForm form(stage, octets);
    if (form.stretch_ == 0 || !form.pays(stage, octets)) return std::nullopt;
    form.index(stage);
    form.derive_limits(stage, octets);
    return form;
}

/// Whether look-ups take less time than VPDPBUSD: cycles a position, as measured on Zen 4.
bool TableForm::pays(const Stage& stage, const OctetForm& octets) const {
    constexpr double kLookUp = 1.3, kTable = 5, kProduct = 1;
    const auto new_rows = static_cast<double>(std::min(stage.stride.rows, kernel_rows_));
    const std::size_t vectors = padded_outputs_ / stage.integer->table_lanes;
    const auto look_ups = static_cast<double>(kernel_rows_ * groups_ * vectors);
    const double tables = new_rows * static_cast<double>(row_tables_) / static_cast<double>(positions_);
    const std::size_t lanes = stage.integer->octet_lanes;
    const auto products = static_cast<double>(octets.steps * (round_up(channels_, lanes) / lanes));
    return kLookUp * look_ups + kTable * tables < kProduct * products;
}

void TableForm::make(const IntegerKernel& kernel, const std::uint8_t* octets, std::int16_t* tables,
                     std::int32_t* beyond) const {
    kernel.make_tables(octets, grain_, row_tables_, tables);
    const std::size_t bits = 8 * (groups_ * kTableOctets - run_);
    const std::uint8_t* after = octets + run_;
    for (std::size_t x = 0; x < positions_; ++x, after += right_) {
        Word some;
        __builtin_memcpy(&some, after, sizeof some);
        beyond[x] = sum_octets(some & below(bits));
    }
}

/// Entry of every channel and group: bits of its weights, zero beyond the last edge of the kernel row.
void TableForm::index(const Stage& stage) {
    const std::size_t lanes = stage.integer->table_lanes;
    const std::size_t stretches = (kernel_rows_ + stretch_ - 1) / stretch_;
    indices_.assign(padded_outputs_ * kernel_rows_ * groups_, 0);
    starts_.assign(stretches * padded_outputs_, 0);
    for (std::size_t channel = 0; channel < channels_; ++channel) {
        const std::int8_t* signs = stage.signs.data() + channel * stage.integer_stride;
        std::vector<std::int32_t> starts(stretches, 0);
        for (std::size_t edge = 0; edge < stage.full_fan_in; ++edge) {
            const std::size_t row = edge / run_, place = edge % run_;
            starts[row / stretch_] -= kMiddle * signs[edge];
            if (signs[edge] < 0) continue;
            const std::size_t group = (channel / lanes * kernel_rows_ + row) * groups_ + place / kTableOctets;
            indices_[group * lanes + channel % lanes] |= static_cast<std::uint16_t>(1u << place % kTableOctets);
        }
        for (std::size_t i = 0; i < stretches; ++i)
            starts_[i * padded_outputs_ + channel] = static_cast<std::int16_t>(starts[i]);
    }
}

/// sum of w u >= limit    iff    sum of w (u - kMiddle) >= limit - kMiddle * (sum of w), over all edges of the kernel:
/// u = 0 where one does not exist.
void TableForm::derive_limits(const Stage& stage, const OctetForm& octets) {
    limits_.assign(stage.border_classes() * padded_outputs_, std::numeric_limits<std::int32_t>::max());
    for (std::size_t channel = 0; channel < channels_; ++channel) {
        const std::int8_t* signs = stage.signs.data() + channel * stage.integer_stride;
        const std::int32_t weights = std::accumulate(signs, signs + stage.full_fan_in, std::int32_t{0});
        for (std::size_t c = 0; c < stage.border_classes(); ++c)
            limits_[c * padded_outputs_ + channel] = octets.limits(c)[channel] - kMiddle * weights;
    }
    if (stretch_ < kernel_rows_) return;
    using Narrow = std::numeric_limits<std::int16_t>;
    for (const std::int64_t limit : limits_)
        narrow_.push_back(static_cast<std::int16_t>(std::clamp<std::int64_t>(limit - 1, Narrow::min(), Narrow::max())));
}

}  // namespace o3bnn
