// The scoreboard: what is known of every neuron, which pairs have work, which windows are vacated and settled.
#pragma once

#include "accel/state.hpp"

namespace o3bnn::accel {

class Scoreboard {
  public:
    explicit Scoreboard(State& state) : state_(state) {}

    /// A window is loaded: its pairs become work.
    void open(Group& g, int window, Cycle now);
    /// A neuron went into a station, or left it for the popcount pipeline.
    void moved(Pe& pe, const Neuron& n, Status status);
    /// A neuron's bit is known.
    void known(Pe& pe, const Place& place, bool bit, Cycle now);
    /// T5: whether another strip evaluates a neuron that this one has not visited.
    bool in_flight_elsewhere(const Pe& pe, const Place& place) const {
        if (!state_.plan.shared()) return false;
        return state_.known[state_.neuron(place.row, place.column, state_.channel(pe, place.slot))] == kInFlight;
    }
    /// T29: another group gets a pair of a window that has no neuron in flight.
    void give(Pe& pe, Group& g, int window, int slot);
    /// T5: takes a bit over that another strip's evaluation has put into the neuron map; false where there is none.
    bool take_over(Pe& pe, const Place& place, Cycle now);

  private:
    void refresh_windows(Pe& pe, const Place& place, Cycle now);
    void refresh(Pe& pe, Group& g, int window, int slot, Cycle now);
    void set_available(Pe& pe, int window, int slot, bool value);
    void settle(Pe& pe, Group& g, int window, int slot, bool bit, bool in_flight, Cycle now);
    void vacate(Pe& pe, Group& g, int window, int slot);
    void squash(Pe& pe, Neuron& n, Cycle now);
    void squash_pair(Pe& pe, Group& g, int window, int slot, Cycle now);
    void confirm(Pe& pe, const Slot& ring, int slot) const;
    bool covers(const Slot& ring, const Place& place) const;

    template <class Visit>
    void for_each_window(const Place& place, Visit visit) const;

    State& state_;
};

/// T20: moves on to the first window that some PE has not vacated.
inline bool advance_oldest(State& state, Group& g) {
    const int before = g.oldest;
    while (g.oldest < g.loaded && g.ring[state.ring(g.oldest)].busy == 0) ++g.oldest;
    if (g.oldest > before) state.call_loader(g);
    return g.oldest > before;
}

/// Gives a neuron's place in the pool back.
inline void retire_neuron(Pe& pe, Neuron& n) {
    n.active = false;
    pe.idle.push_back(&n);
}

/// Takes a neuron out of its station.
void release(State& state, Pe& pe, Neuron& n);

}  // namespace o3bnn::accel
