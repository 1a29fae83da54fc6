// The scoreboard: what is known of every neuron, which pairs have work, which windows are vacated and settled.
#pragma once

#include "accel/state.hpp"

namespace o3bnn::accel {

class Scoreboard {
  public:
    explicit Scoreboard(State& state) : state_(state) {}

    /// A window is loaded: its pairs become work.
    void open(Group& g, int window);
    /// A neuron went into a station, or left it for the popcount pipeline.
    void moved(Pe& pe, const Neuron& n, Status status);
    /// A neuron's bit is known.
    void known(Pe& pe, const Neuron& n, bool bit, Cycle now);

  private:
    void refresh_windows(Pe& pe, const Neuron& n, Cycle now);
    void refresh(Pe& pe, Group& g, int window, int slot, Cycle now);
    void settle(Pe& pe, Group& g, int window, int slot, bool bit, bool in_flight, Cycle now);
    void vacate(Pe& pe, Group& g, int window, int slot);
    void squash_pair(Pe& pe, Group& g, int window, int slot, Cycle now);
    void squash(Pe& pe, Group& g, Neuron& n, Cycle now);
    void confirm(Pe& pe, int window, int slot) const;
    bool covers(const Group& g, int window, const Neuron& n) const;

    template <class Visit>
    void for_each_window(const Group& g, const Neuron& n, Visit visit) const;

    State& state_;
};

/// T20: moves on to the first window that some PE has not vacated.
inline void advance_oldest(const State& state, Group& g) {
    while (g.oldest < g.loaded && g.ring[state.ring(g.oldest)].busy == 0) ++g.oldest;
}

/// Gives a neuron's place in the pool back.
inline void retire_neuron(Pe& pe, Neuron& n) {
    n.active = false;
    pe.idle.push_back(static_cast<int>(&n - pe.pool.data()));
}

/// Takes a neuron out of its station.
void release(Pe& pe, Neuron& n);

}  // namespace o3bnn::accel
