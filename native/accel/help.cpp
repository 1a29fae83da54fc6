#include <bit>

#include "accel/units.hpp"

namespace o3bnn::accel {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

bool has(const Word* bits, int slot) { return (bits[slot / 64] >> (slot % 64) & 1) != 0; }

}  // namespace

bool Help::operate(Group& helper, Cycle now) {
    if (!needed(helper)) return false;
    Offer best;
    for (Group& giver : state_.groups) {
        if (giver.index == helper.index) continue;
        const Offer found = offer(giver, helper);
        if (found.pairs > best.pairs) best = found;
    }
    if (best.pairs == 0) return false;
    move(*best.giver, best.window, helper, now);
    return true;
}

/// Whether so many of a group's PEs are idle that a window for them is worth its place among those in flight.
bool Help::needed(const Group& helper) const {
    const int* const free = &state_.free[at(helper.index * state_.plan.lanes)];
    const auto idle = std::count(free, free + state_.plan.lanes, 0);
    return state_.config.lockstep ? idle == state_.plan.lanes : 4 * idle >= 3 * state_.plan.lanes;
}

/// What a group has to give: of its last window of which it has anything.
Help::Offer Help::offer(Group& giver, const Group& helper) const {
    const Pe* const first = state_.first_pe(giver);
    const int* const free = &state_.free[at(first->index)];
    if (std::none_of(free, free + state_.plan.lanes, has_spare)) return {};
    for (int window = giver.loaded - 1; window >= giver.oldest; --window) {
        if (giver.ring[state_.ring(window)].busy == 0) continue;
        int pairs = 0;
        for (const Pe* pe = first; pe != first + state_.plan.lanes; ++pe) pairs += offered(*pe, helper, window);
        if (pairs > 0 && fits(helper, state_.stage_window(giver, window))) return {&giver, window, pairs};
    }
    return {};
}

/// Pairs of a window that a PE gives to the helper's of the same lane if that is idle: at most half of all that it has.
int Help::offered(const Pe& pe, const Group& helper, int window) const {
    const int free = state_.free[at(pe.index)];
    if (!has_spare(free) || state_.free[at(helper.index * state_.plan.lanes + pe.lane)] > 0) return 0;
    const Word* const bits = state_.available(pe, window);
    int count = 0;
    for (std::size_t limb = 0; limb < state_.limbs; ++limb) count += std::popcount(bits[limb]);
    return std::min(count, free / 2);
}

/// T19: whether the window's patch has room beside those that the helper holds.
bool Help::fits(const Group& helper, int window) const {
    const bool holds = helper.oldest < helper.loaded;
    const int held = holds ? helper.end.back() - helper.begin[at(helper.oldest)] : 0;
    return held + (state_.streams_operand() ? 0 : state_.layer.patch_words(window)) <= state_.config.slot_words;
}

/// Each PE of the giver gives the last ones of its pairs, with what is known of their neurons.
void Help::move(Group& giver, int window, Group& helper, Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    const Slot& from = giver.ring[state_.ring(window)];
    Strip part;
    part.first_window = state_.stage_window(giver, window);
    part.count = 1;
    part.row = from.row, part.rows = plan.pool.rows;
    part.column = from.column, part.columns = plan.pool.columns;
    part.pairs.assign(state_.per_position(), 0);
    Strip& strip = add_strip(state_, helper, std::move(part));
    for (Pe *pe = state_.first_pe(giver), *end = pe + state_.plan.lanes; pe != end; ++pe) {
        int left = offered(*pe, helper, window);
        for (int slot = pe->channels - 1; left > 0; --slot) {
            if (!has(state_.available(*pe, window), slot)) continue;
            const std::size_t pair = state_.pair(*pe, slot);
            strip.pairs[pair] = 1;
            for (int p = 0; p < plan.positions(); ++p) {
                const std::size_t row = at(p / plan.pool.columns), column = at(p % plan.pool.columns);
                strip.status[at(p) * state_.per_position() + pair] =
                    from.status[row * from.row_step + column * state_.per_position() + pair];
            }
            scoreboard_.give(*pe, giver, window, slot);
            --left;
        }
    }
    state_.wake_group(giver, now);
}

}  // namespace o3bnn::accel
