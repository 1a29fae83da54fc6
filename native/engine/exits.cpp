#include "engine/exits.hpp"

#include <algorithm>

#include "engine/stage.hpp"
#include "kernels/popcount.hpp"

namespace o3bnn {

ExitForm::ExitForm(const Stage& stage, const std::vector<std::size_t>& checks, std::size_t stride)
    : checks_(checks),
      stride_(stride),
      groups_(stage.groups),
      rest_(stage.border_classes() * checks.size()),
      absent_(stage.border_classes() * stage.groups * checks.size() * stride) {
    for (std::size_t c = 0; c < stage.border_classes(); ++c) {
        whole_.push_back(static_cast<std::size_t>(stage.fan_in(c)) == stage.full_fan_in);
        for (std::size_t i = 0; i < checks.size(); ++i) {
            rest_[c * checks.size() + i] = stage.fan_in(c) - stage.seen(c)[checks[i] - 1];
            for (std::size_t channel = 0; channel < stage.conv.channels; ++channel) {
                const std::size_t group = channel / stage.group_outputs, lane = channel % stage.group_outputs;
                std::int32_t& absent = absent_[((c * groups_ + group) * checks.size() + i) * stride + lane];
                const WordRuns& runs = *stage.runs(c);
                for (std::size_t run = 0; run < runs.count; ++run) {
                    const auto [begin, end] = runs.first[run];
                    for (std::size_t word = std::max(checks[i], begin); word < end; ++word)
                        absent += popcount(stage.rows[channel * stage.words + word] & ~stage.exists(c)[word]);
                }
            }
        }
    }
}

}  // namespace o3bnn
