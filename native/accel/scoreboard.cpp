#include "accel/scoreboard.hpp"

namespace o3bnn::accel {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

void set_bit(std::vector<Word>& bits, int index, bool value) {
    const Word mask = Word{1} << (index % 64);
    Word& word = bits[at(index / 64)];
    word = value ? word | mask : word & ~mask;
}

}  // namespace

void release(Pe& pe, Neuron& n) {
    const int index = static_cast<int>(&n - pe.pool.data());
    pe.stations.erase(std::find(pe.stations.begin(), pe.stations.end(), index));
    n.in_station = false;
}

bool Scoreboard::covers(const Group& g, int window, const Neuron& n) const {
    const int y = n.row - state_.window_row(g, window), x = n.column - state_.window_column(g, window);
    return y >= 0 && y < state_.layer.plan().pool.rows && x >= 0 && x < state_.layer.plan().pool.columns;
}

/// Visits the windows of the group that read a neuron, in order.
template <class Visit>
void Scoreboard::for_each_window(const Group& g, const Neuron& n, Visit visit) const {
    const StagePlan& plan = state_.layer.plan();
    if (!plan.overlaps()) {
        visit(n.window);
        return;
    }
    const int first_row = std::max(0, n.row - plan.pool.rows + plan.pool_stride.rows) / plan.pool_stride.rows;
    const int first_column =
        std::max(0, n.column - plan.pool.columns + plan.pool_stride.columns) / plan.pool_stride.columns;
    const int last_row = std::min(n.row / plan.pool_stride.rows, plan.out_rows() - 1);
    const int last_column = std::min(n.column / plan.pool_stride.columns, plan.out_columns() - 1);
    for (int y = first_row; y <= last_row; ++y) {
        for (int x = first_column; x <= last_column; ++x) {
            const int window = y * plan.out_columns() + x - g.windows.front();
            if (window >= 0 && window < static_cast<int>(g.windows.size())) visit(window);
        }
    }
}

void Scoreboard::open(Group& g, int window) {
    Slot& slot = g.ring[state_.ring(window)];
    slot.window = window;
    slot.open = slot.busy = 0;
    state_.layer.gather(state_.in, state_.stage_window(g, window), slot.patch);
    Pe* first = &state_.pes[at(g.index * state_.plan.lanes)];
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe) {
        slot.open += pe->channels;
        slot.busy += pe->channels;
        pe->left[state_.ring(window)] = pe->channels;
        std::fill(pe->vacated[state_.ring(window)].begin(), pe->vacated[state_.ring(window)].end(), std::uint8_t{0});
    }
    for (Pe* pe = first; pe != first + state_.plan.lanes; ++pe)
        for (int c = 0; c < pe->channels; ++c) refresh(*pe, g, window, c, 0);
}

void Scoreboard::moved(Pe& pe, const Neuron& n, Status status) {
    state_.status(state_.groups[at(pe.group)], pe, n.row, n.column, n.slot) = status;
    refresh_windows(pe, n, 0);
}

void Scoreboard::known(Pe& pe, const Neuron& n, bool bit, Cycle now) {
    state_.status(state_.groups[at(pe.group)], pe, n.row, n.column, n.slot) = bit ? kFired : kSilent;
    refresh_windows(pe, n, now);
}

void Scoreboard::refresh_windows(Pe& pe, const Neuron& n, Cycle now) {
    Group& g = state_.groups[at(pe.group)];
    for_each_window(g, n, [&](int window) {
        if (window >= g.retired && window < g.loaded) refresh(pe, g, window, n.slot, now);
    });
}

/// Brings a pair's books in line with the status of its neurons.
void Scoreboard::refresh(Pe& pe, Group& g, int window, int slot, Cycle now) {
    const StagePlan& plan = state_.layer.plan();
    if (state_.settled(g, pe, window, slot) != kOpen) return;
    const Status decisive = plan.decisive[at(state_.channel(pe, slot))] ? kFired : kSilent;
    int counts[5] = {};
    const int row = state_.window_row(g, window), column = state_.window_column(g, window);
    for (int y = row; y < row + plan.pool.rows; ++y)
        for (int x = column; x < column + plan.pool.columns; ++x) ++counts[state_.status(g, pe, y, x, slot)];
    const int in_flight = counts[kInStation] + counts[kInPipe];
    const bool complete = counts[kUnvisited] + in_flight == 0;
    if ((counts[decisive] > 0 && state_.config.prune) || complete) {
        settle(pe, g, window, slot, (counts[decisive] > 0) == (decisive == kFired), in_flight > 0, now);
        return;
    }
    set_bit(pe.available[state_.ring(window)], slot, counts[kUnvisited] > 0 && in_flight == 0);
    set_bit(pe.pending[state_.ring(window)], slot, counts[kUnvisited] > 0 && in_flight > 0);
    if (in_flight == 1) confirm(pe, window, slot);
    if (counts[kUnvisited] + counts[kInStation] == 0) vacate(pe, g, window, slot);
}

/// T13: the only neuron that a pair has in flight is no speculation any more.
void Scoreboard::confirm(Pe& pe, int window, int slot) const {
    const Group& g = state_.groups[at(pe.group)];
    for (const int s : pe.stations) {
        Neuron& n = pe.pool[at(s)];
        if (n.speculative && n.slot == slot && covers(g, window, n)) n.speculative = false;
    }
}

void Scoreboard::settle(Pe& pe, Group& g, int window, int slot, bool bit, bool in_flight, Cycle now) {
    state_.settled(g, pe, window, slot) = bit ? kOne : kZero;
    const StagePlan& plan = state_.layer.plan();
    const int channel = state_.channel(pe, slot);
    state_.out[at(state_.stage_window(g, window)) * at(plan.channels) + at(channel)] = bit ? 1 : 0;
    set_bit(pe.available[state_.ring(window)], slot, false);
    set_bit(pe.pending[state_.ring(window)], slot, false);
    --g.ring[state_.ring(window)].open;
    vacate(pe, g, window, slot);
    state_.weights.decided(state_.pass, pe.index, pe.lane, slot);
    if (in_flight) squash_pair(pe, g, window, slot, now);
}

void Scoreboard::vacate(Pe& pe, Group& g, int window, int slot) {
    std::uint8_t& vacated = pe.vacated[state_.ring(window)][at(slot)];
    if (vacated) return;
    vacated = 1;
    --pe.left[state_.ring(window)];
    --g.ring[state_.ring(window)].busy;
}

/// T14: neurons of a settled pair leave, unless another window that is not settled reads them.
void Scoreboard::squash_pair(Pe& pe, Group& g, int window, int slot, Cycle now) {
    for (Neuron& n : pe.pool) {
        if (!n.active || n.dead || n.slot != slot || !covers(g, window, n)) continue;
        bool needed = false;
        for_each_window(g, n, [&](int w) { needed |= state_.settled(g, pe, w, slot) == kOpen; });
        if (!needed) squash(pe, g, n, now);
    }
}

void Scoreboard::squash(Pe& pe, Group& g, Neuron& n, Cycle now) {
    if (n.in_station) {
        release(pe, n);
        if (state_.config.lockstep) --g.step.running;
    }
    state_.status(g, pe, n.row, n.column, n.slot) = kUnvisited;
    state_.counters.squashed_words += n.issued;
    state_.counters.wasted += state_.layer.edges_after(n.border, n.issued);
    ++state_.counters.squashed_neurons;
    state_.record(now, Event::squash, pe, n, n.issued);
    n.dead = n.queued;
    if (!n.queued) retire_neuron(pe, n);
}

}  // namespace o3bnn::accel
