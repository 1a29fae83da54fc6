// The units of the pipeline. Each has an operate() that moves one cycle on and says whether anything moved.
#pragma once

#include "accel/scoreboard.hpp"

namespace o3bnn::accel {

/// Writes settled windows into the output map, in order (T21).
class Retire {
  public:
    explicit Retire(State& state) : state_(state) {}
    bool operate(Cycle now);
    bool finished() const {
        return state_.next_window == state_.layer.plan().windows() && state_.retired == state_.taken;
    }

  private:
    bool retire(Group& g, Cycle now);
    void find_first_unretired();

    State& state_;
};

/// Takes decisions out of the popcount pipeline and squashes what they make needless (T7, T14).
class Decide {
  public:
    Decide(State& state, Scoreboard& scoreboard) : state_(state), scoreboard_(scoreboard) {}
    bool operate(Pe& pe, Cycle now) {
        if (pe.pipe.due() > now) return false;
        take(pe, now);
        return true;
    }

  private:
    void take(Pe& pe, Cycle now);
    void account(const Pe& pe, const Neuron& n);

    State& state_;
    Scoreboard& scoreboard_;
};

/// What became of a PE's turn to dispatch: no neuron, its bounds unit or another strip in the way, or a dispatch.
enum class Turn { nothing, blocked, dispatched };

/// Issues a word of a ready station, or names the stall (T6, T8 to T11).
class Issue {
  public:
    Issue(State& state, Scoreboard& scoreboard);
    bool operate(Pe& pe, Cycle now);
    Cycle run_ahead(Pe& pe, Cycle now, Turn turn);

  private:
    struct Selection {
        Neuron* neuron = nullptr;
        bool starved = false;   ///< a station lacks its weights
        Cycle retry = kNever;   ///< when a station that was passed over becomes ready
    };

    template <bool here>
    Selection select(Pe& pe, Cycle now) const;
    bool arrived(const Pe& pe, const Neuron& n, int word) const;
    void execute(Pe& pe, Neuron& n, Cycle now);
    Stall reason(Pe& pe, bool starved);
    bool secluded(const Pe& pe) const;
    Cycle next_event(const Pe& pe, Turn turn) const;
    int run_length(const Pe& pe, const Neuron& n) const;

    State& state_;
    Scoreboard& scoreboard_;
    const std::size_t stations_;
    const bool single_use_, can_seclude_;  ///< whether PEs can be secluded in this pass
    Cycle sleep_until_ = 0;
};

/// Puts neurons into free stations (T12, T13, T15), or a step's neurons into all PEs of a group (T16).
class Dispatch {
  public:
    Dispatch(State& state, Scoreboard& scoreboard) : state_(state), scoreboard_(scoreboard) {}
    Turn operate(Pe& pe, Cycle now) {
        if (now < pe.bounds_until) {
            state_.busy_until = std::max(state_.busy_until, pe.bounds_until);
            return Turn::blocked;
        }
        const bool full = static_cast<int>(pe.stations.size()) == state_.config.stations;
        return full ? Turn::nothing : dispatch(pe, now);
    }
    bool operate(Group& g, Cycle now);

  private:
    enum class StepResult { empty, started, waits };

    Turn dispatch(Pe& pe, Cycle now);
    bool start(Pe& pe, const Place& place, int position, bool speculative, Cycle now);
    Turn dispatch_from(Pe& pe, std::vector<Word> Pe::* pairs, bool speculative, Cycle now);
    bool start_next(Pe& pe, Group& g, int window, int slot, bool speculative, Cycle now);
    StepResult start_step(Group& g, Cycle now);
    bool has_work(Group& g, const Pe& pe, const Place& place);
    static bool advance(Step& step, int positions, int slots);

    State& state_;
    Scoreboard& scoreboard_;
};

/// Hands pairs of groups that are at work to one most of whose PEs run out of them (T29).
class Help {
  public:
    Help(State& state, Scoreboard& scoreboard) : state_(state), scoreboard_(scoreboard) {}
    /// Whether groups of the pass could help each other.
    bool possible() const {
        const bool divisible = state_.plan.strip == 1 || !state_.layer.plan().overlaps();
        return state_.config.help && state_.plan.groups > 1 && divisible;
    }
    /// Whether any PE has pairs to give.
    bool anything() const { return std::any_of(state_.free.begin(), state_.free.end(), has_spare); }
    /// Gives a group a part of another one's window; false where it needs none or there is none to be had.
    bool operate(Group& helper, Cycle now);

  private:
    struct Offer {
        Group* giver = nullptr;
        int window = 0, pairs = 0;
    };

    static bool has_spare(int free) { return free > 1; }
    bool needed(const Group& helper) const;
    Offer offer(Group& giver, const Group& helper) const;
    int offered(const Pe& pe, const Group& helper, int window) const;
    bool fits(const Group& helper, int window) const;
    void move(Group& giver, int window, Group& helper, Cycle now);

    State& state_;
    Scoreboard& scoreboard_;
};

/// Reads the image from DRAM into the map memory, as far as it has a place there (T30).
class ImageReader {
  public:
    explicit ImageReader(State& state);
    bool operate(Cycle now);

  private:
    struct Delivery {
        Cycle time;
        std::int64_t elements;
    };

    void request(Cycle now);

    State& state_;
    std::deque<Delivery> under_way_{};
    std::int64_t requested_ = 0, credit_ = 0;
};

/// Copies patches from the input map into the PEs' slots (T17 to T20).
class Loader {
  public:
    Loader(State& state, Scoreboard& scoreboard) : state_(state), scoreboard_(scoreboard), help_(state, scoreboard) {}
    bool operate(Cycle now);

  private:
    bool begin(Group& g, Cycle now);
    bool has_place(const Group& g) const;
    bool window_fits(const Group& g) const;
    bool strip_fits(const Group& g) const;
    bool help_groups(Cycle now);
    bool attend(Group& g, Cycle now);
    bool finish_loaded(Group& g, Cycle now);
    void write_words(Cycle now);
    void count_occupancy(Group& g, Cycle now);

    State& state_;
    Scoreboard& scoreboard_;
    Help help_;
    int turn_ = 0, loading_ = 0;  ///< loading_: groups that have words to load
};

}  // namespace o3bnn::accel
