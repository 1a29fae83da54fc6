#include "accel/scoreboard.hpp"

namespace o3bnn::accel {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

void set_bit(Word* bits, int index, bool value) {
    const Word mask = Word{1} << (index % 64);
    Word& word = bits[index / 64];
    word = value ? word | mask : word & ~mask;
}

}  // namespace

void release(State& state, Pe& pe, Neuron& n) {
    pe.stations.erase(std::find(pe.stations.begin(), pe.stations.end(), &n));
    n.in_station = false;
    if (state.config.lockstep) ++state.group(pe).step.released;
}

bool Scoreboard::covers(const Slot& ring, const Place& place) const {
    const int y = place.row - ring.row, x = place.column - ring.column;
    const Extent pool = state_.layer.plan().pool;
    return place.strip == ring.strip && y >= 0 && y < pool.rows && x >= 0 && x < pool.columns;
}

/// Visits the windows of the neuron's strip that read it, in order.
template <class Visit>
void Scoreboard::for_each_window(const Place& place, Visit visit) const {
    const StagePlan& plan = state_.layer.plan();
    if (!plan.overlaps()) {
        visit(place.window);
        return;
    }
    const auto first = [](int at, int size, int stride) { return std::max(0, at - size + stride) / stride; };
    const int image = place.row / plan.rows, row = place.row % plan.rows;
    const int last_row = std::min(row / plan.pool_stride.rows, plan.out_rows() - 1);
    const int last_column = std::min(place.column / plan.pool_stride.columns, plan.out_columns() - 1);
    for (int y = first(row, plan.pool.rows, plan.pool_stride.rows); y <= last_row; ++y) {
        for (int x = first(place.column, plan.pool.columns, plan.pool_stride.columns); x <= last_column; ++x) {
            const int index =
                image * plan.image_windows() + y * plan.out_columns() + x - place.strip->first_window;
            if (index >= 0 && index < place.strip->count) visit(place.strip->first + index);
        }
    }
}

void Scoreboard::open(Group& g, int window, Cycle now) {
    Slot& slot = g.ring[state_.ring(window)];
    const int of_stage = state_.stage_window(g, window);
    slot.strip = &*std::find_if(g.strips.begin(), g.strips.end(),
                                [window](const Strip& s) { return window < s.first + s.count; });
    slot.row = state_.layer.window_row(of_stage);
    slot.column = state_.layer.window_column(of_stage);
    slot.row_step = at(slot.strip->columns) * state_.per_position();
    slot.status = &slot.strip->status[at(slot.row - slot.strip->row) * slot.row_step +
                                      at(slot.column - slot.strip->column) * state_.per_position()];
    slot.bits = 0;
    slot.settled.assign(state_.per_position(), kOpen);
    slot.vacated.assign(state_.per_position(), 0);
    state_.layer.gather(state_.in, of_stage, slot.patch);
    Pe* const first = state_.first_pe(g);
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe) {
        int& left = pe->left[state_.ring(window)] = pe->channels;
        for (int c = 0; c < pe->channels && !slot.strip->pairs.empty(); ++c) {
            const std::size_t pair = state_.pair(*pe, c);
            if (slot.strip->pairs[pair]) continue;
            slot.settled[pair] = kElsewhere;
            slot.vacated[pair] = 1;
            --left;
        }
        slot.bits += left;
    }
    slot.open = slot.busy = slot.bits;
    if (slot.open == 0) state_.settled_windows[at(g.index)] = 1;
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe) {
        if (state_.layer.plan().overlaps()) catch_up(state_, *pe, now + 1);  // what is known may squash what it issues
        for (int c = 0; c < pe->channels; ++c) refresh(*pe, g, window, c, now);
    }
}

void Scoreboard::moved(Pe& pe, const Neuron& n, Status status) {
    const Place& place = n.place;
    state_.status(*place.strip, pe, place.row, place.column, place.slot) = status;
    refresh_windows(pe, place, 0);
}

void Scoreboard::known(Pe& pe, const Place& place, bool bit, Cycle now) {
    state_.status(*place.strip, pe, place.row, place.column, place.slot) = bit ? kFired : kSilent;
    refresh_windows(pe, place, now);
}

bool Scoreboard::take_over(Pe& pe, const Place& place, Cycle now) {
    if (!state_.plan.shared()) return false;
    const std::uint8_t found = state_.known[state_.neuron(place.row, place.column, state_.channel(pe, place.slot))];
    if (found < kKnownSilent) return false;
    known(pe, place, found == kKnownFired, now);
    return true;
}

void Scoreboard::refresh_windows(Pe& pe, const Place& place, Cycle now) {
    Group& g = state_.group(pe);
    for_each_window(place, [&](int window) {
        if (window >= g.retired && window < g.loaded) refresh(pe, g, window, place.slot, now);
    });
}

/// Counts of a window's neurons, all in one word: those in a station (8 bits), in the pipe (8), unvisited (24), fired
/// (24); the silent ones are the rest. A PE never has 256 neurons in flight, nor a window 2^24.
constexpr std::array<Word, 5> kCounts{Word{1} << 16, 1, 1 << 8, 0, Word{1} << 40};

void Scoreboard::set_available(Pe& pe, int window, int slot, bool value) {
    Word& word = state_.available(pe, window)[slot / 64];
    const Word bit = Word{value} << (slot % 64), before = word;
    word = (before & ~(Word{1} << (slot % 64))) | bit;
    if (word != before) state_.free[at(pe.index)] += value ? 1 : -1;
}

/// Brings a pair's books in line with the status of its neurons.
void Scoreboard::refresh(Pe& pe, Group& g, int window, int slot, Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    const Slot& ring = g.ring[state_.ring(window)];
    const std::size_t pair = state_.pair(pe, slot);
    if (ring.settled[pair] != kOpen) return;
    if (plan.positions() == 1) {  // the rest of the function for the many stages without pooling
        const std::uint8_t status = ring.status[pair];
        if (status >= kSilent) return settle(pe, g, window, slot, status == kFired, false, now);
        set_available(pe, window, slot, status == kUnvisited);
        if (status == kInPipe) vacate(pe, g, window, slot);
        return;
    }
    const Status decisive = plan.decisive[at(state_.plan.channels[pair])] ? kFired : kSilent;
    Word counts = 0;
    const std::size_t step = state_.per_position();
    const std::uint8_t* row = ring.status + pair;
    for (int y = 0; y < plan.pool.rows; ++y, row += ring.row_step) {
        const std::uint8_t* status = row;
        for (int x = 0; x < plan.pool.columns; ++x, status += step) counts += kCounts[*status];
    }
    const int in_station = static_cast<int>(counts & 0xFF);
    const int in_flight = in_station + static_cast<int>(counts >> 8 & 0xFF);
    const int unvisited = static_cast<int>(counts >> 16 & 0xFFFFFF), fired = static_cast<int>(counts >> 40);
    const int decided = decisive == kFired ? fired : plan.positions() - unvisited - in_flight - fired;
    const bool complete = unvisited + in_flight == 0;
    if ((decided > 0 && state_.config.prune) || complete) {
        settle(pe, g, window, slot, (decided > 0) == (decisive == kFired), in_flight > 0, now);
        return;
    }
    set_available(pe, window, slot, unvisited > 0 && in_flight == 0);
    set_bit(state_.pending(pe, window), slot, unvisited > 0 && in_flight > 0);
    if (in_flight == 1) confirm(pe, ring, slot);
    if (unvisited + in_station == 0) vacate(pe, g, window, slot);
}

/// T13: the only neuron that a pair has in flight is no speculation any more.
void Scoreboard::confirm(Pe& pe, const Slot& ring, int slot) const {
    for (Neuron* const n : pe.stations)
        if (n->speculative && n->place.slot == slot && covers(ring, n->place)) n->speculative = false;
}

void Scoreboard::settle(Pe& pe, Group& g, int window, int slot, bool bit, bool in_flight, Cycle now) {
    state_.settled(g, pe, window, slot) = bit ? kOne : kZero;
    const StagePlan& plan = state_.layer.plan();
    const int channel = state_.channel(pe, slot);
    state_.out[at(state_.stage_window(g, window)) * at(plan.channels) + at(channel)] = bit ? 1 : 0;
    set_available(pe, window, slot, false);
    set_bit(state_.pending(pe, window), slot, false);
    if (--g.ring[state_.ring(window)].open == 0) state_.settled_windows[at(g.index)] = 1;
    vacate(pe, g, window, slot);
    if (state_.single_use()) state_.weights.decided(state_.pass, pe.index, pe.lane, slot);
    if (in_flight) squash_pair(pe, g, window, slot, now);
}

void Scoreboard::give(Pe& pe, Group& g, int window, int slot) {
    Slot& ring = g.ring[state_.ring(window)];
    state_.settled(g, pe, window, slot) = kElsewhere;
    set_available(pe, window, slot, false);
    --ring.bits;
    if (--ring.open == 0) state_.settled_windows[at(g.index)] = 1;
    vacate(pe, g, window, slot);
}

void Scoreboard::vacate(Pe& pe, Group& g, int window, int slot) {
    Slot& ring = g.ring[state_.ring(window)];
    std::uint8_t& vacated = ring.vacated[state_.pair(pe, slot)];
    if (vacated) return;
    vacated = 1;
    --pe.left[state_.ring(window)];
    if (--ring.busy == 0) state_.call_loader(g);
}

/// T14: neurons of a settled pair leave, unless another window that is not settled reads them.
void Scoreboard::squash_pair(Pe& pe, Group& g, int window, int slot, Cycle now) {
    const auto needs = [&](int w) {
        const bool here = w < g.loaded || w == window;  // it may be opening just now
        return !here || (w >= g.retired && state_.settled(g, pe, w, slot) == kOpen);
    };
    for (Neuron& n : pe.pool) {
        if (!n.active || n.dead || n.place.slot != slot || !covers(g.ring[state_.ring(window)], n.place)) continue;
        bool needed = false;
        for_each_window(n.place, [&](int w) { needed |= needs(w); });
        if (!needed) squash(pe, n, now);
    }
}

void Scoreboard::squash(Pe& pe, Neuron& n, Cycle now) {
    if (n.in_station) release(state_, pe, n);
    state_.status(*n.place.strip, pe, n.place.row, n.place.column, n.place.slot) = kUnvisited;
    state_.tell(pe, n.place, kUnknown);
    state_.counters.squashed_words += n.issued;
    state_.counters.wasted += state_.layer.edges_after(n.border, n.issued);
    ++state_.counters.squashed_neurons;
    state_.record(now, Event::squash, pe, n, n.issued);
    n.dead = n.queued;
    if (!n.queued) retire_neuron(pe, n);
}

}  // namespace o3bnn::accel
