#include <bit>

#include "accel/units.hpp"

namespace o3bnn::accel {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

bool has(const Word* bits, int slot) { return (bits[slot / 64] >> (slot % 64) & 1) != 0; }

}  // namespace

void Help::look_around() {
    offers_.resize(state_.groups.size());
    for (Group& g : state_.groups) look(g);
    choose();
}

bool Help::operate(Group& helper, Cycle now) {
    if (best_.pairs == 0) return false;
    move(*best_.giver, best_.window, helper, now);
    look(*best_.giver);
    choose();
    return true;
}

/// Finds the largest offer, of several the first group's.
void Help::choose() {
    best_ = *std::max_element(offers_.begin(), offers_.end(),
                              [](const Offer& one, const Offer& other) { return one.pairs < other.pairs; });
}

/// Sees what a group has to give.
void Help::look(Group& g) {
    Offer& offer = offers_[at(g.index)] = {&g, 0, 0};
    for (int window = g.loaded - 1; window >= g.oldest && offer.pairs == 0; --window)
        offer = {&g, window, offered(g, window)};
}

/// Pairs without a neuron in flight that a PE gives of a window: half of its group's oldest, on which it works.
int Help::offered_by(const Pe& pe, const Group& g, int window) const {
    const Word* const bits = state_.available(pe, window);
    int count = 0;
    for (std::size_t limb = 0; limb < state_.limbs; ++limb) count += std::popcount(bits[limb]);
    return window == g.oldest ? count / 2 : count;
}

int Help::offered(const Group& g, int window) const {
    if (g.ring[state_.ring(window)].busy == 0) return 0;
    int pairs = 0;
    for (const Pe *pe = state_.first_pe(g), *end = pe + state_.plan.lanes; pe != end; ++pe)
        pairs += offered_by(*pe, g, window);
    return pairs;
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
        int left = offered_by(*pe, giver, window);
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
