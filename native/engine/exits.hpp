// What the tiles of Method::threshold look up at their checks.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernel.hpp"

namespace o3bnn {

class Stage;

class ExitForm {
  public:
    /// checks: words of a patch, increasing. stride: channels of a group, rounded up to whole lane blocks.
    ExitForm(const Stage& stage, const std::vector<std::size_t>& checks, std::size_t stride);

    ExitChecks checks(const ExitTile* tiles) const { return {checks_.data(), checks_.size(), tiles, stride_}; }

    /// Of a patch in a border class, for the channels of a group from channel `channel` of it on.
    ExitTile tile(std::size_t border_class, std::size_t group, std::size_t channel) const {
        const std::int32_t* rest = rest_.data() + border_class * checks_.size();
        if (whole_[border_class]) return {rest, nullptr};
        return {rest, absent_.data() + (border_class * groups_ + group) * checks_.size() * stride_ + channel};
    }

  private:
    std::vector<std::size_t> checks_;
    std::size_t stride_, groups_;
    std::vector<std::uint8_t> whole_;   ///< [classes] whether all edges exist
    std::vector<std::int32_t> rest_;    ///< [classes][checks]
    std::vector<std::int32_t> absent_;  ///< [classes][groups][checks][stride]
};

}  // namespace o3bnn
