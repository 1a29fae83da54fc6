// The units of the pipeline. Each has an operate() that moves one cycle on and says whether anything moved.
#pragma once

#include "accel/scoreboard.hpp"

namespace o3bnn::accel {

/// Writes settled windows into the output map, in order (T21).
class Retire {
  public:
    explicit Retire(State& state) : state_(state) {}
    bool operate(Cycle now);
    bool finished() const { return finished_ == state_.plan.groups; }

  private:
    State& state_;
    int finished_ = 0;
};

/// Takes decisions out of the popcount pipeline and squashes what they make needless (T7, T14).
class Decide {
  public:
    Decide(State& state, Scoreboard& scoreboard) : state_(state), scoreboard_(scoreboard) {}
    bool operate(Pe& pe, Cycle now);

  private:
    void account(const Pe& pe, const Neuron& n);

    State& state_;
    Scoreboard& scoreboard_;
};

/// Issues a word of a ready station, or names the stall (T6, T8 to T11).
class Issue {
  public:
    Issue(State& state, Scoreboard& scoreboard) : state_(state), scoreboard_(scoreboard) {}
    bool operate(Pe& pe, Cycle now);

  private:
    Neuron* select(Pe& pe, Cycle now, bool& starved);
    bool ready(Neuron& n, Cycle now) const;
    void execute(Pe& pe, Neuron& n, Cycle now);
    Stall reason(const Pe& pe, bool starved) const;

    State& state_;
    Scoreboard& scoreboard_;
};

/// Puts neurons into free stations (T12, T13, T15), or a step's neurons into all PEs of a group (T16).
class Dispatch {
  public:
    Dispatch(State& state, Scoreboard& scoreboard) : state_(state), scoreboard_(scoreboard) {}
    bool operate(Pe& pe, Cycle now);
    bool operate(Group& g, Cycle now);

  private:
    enum class StepResult { empty, started, waits };

    bool start(Pe& pe, Group& g, int window, int position, int slot, bool speculative, Cycle now);
    bool start_next(Pe& pe, Group& g, int window, int slot, bool speculative, Cycle now);
    StepResult start_step(Group& g, Cycle now);
    static bool advance(Step& step, int positions, int slots);

    State& state_;
    Scoreboard& scoreboard_;
};

/// Copies patches from the input map into the PEs' slots (T17 to T20).
class Loader {
  public:
    Loader(State& state, Scoreboard& scoreboard) : state_(state), scoreboard_(scoreboard) {}
    bool operate(Cycle now);

  private:
    bool begin(Group& g);
    bool finish_loaded(Group& g, Cycle now);
    void count_occupancy();

    State& state_;
    Scoreboard& scoreboard_;
    int turn_ = 0;
};

}  // namespace o3bnn::accel
