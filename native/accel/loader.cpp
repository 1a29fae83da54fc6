#include <stdexcept>

#include "accel/units.hpp"

namespace o3bnn::accel {

bool Loader::operate(Cycle now) {
    bool progress = false;
    for (std::size_t group = 0; group < state_.groups.size(); ++group)
        if (state_.attention[group]) progress |= attend(state_.groups[group], now);
    if (state_.next_window == state_.layer.plan().windows() && help_.possible()) progress |= help_groups(now);
    if (loading_ > 0) {
        write_words(now);
        progress = true;
    }
    return progress;
}

/// Writes the cycle's words, group by group in turn.
void Loader::write_words(Cycle now) {
    const int groups = static_cast<int>(state_.groups.size());
    const bool spilled = state_.layer.plan().spilled_in;
    int budget = state_.config.loader_words;
    while (budget > 0 && loading_ > 0 && !(spilled && !state_.dram.available())) {
        Group& g = state_.groups[static_cast<std::size_t>(turn_)];
        if (g.remaining <= 0) {
            turn_ = (turn_ + 1) % groups;
            continue;
        }
        const int words = spilled ? 1 : std::min(budget, g.remaining);
        budget -= words;
        g.remaining -= words;
        state_.counters.slot_writes += std::int64_t{words} * state_.plan.lanes;
        state_.counters.map_reads += words;
        if (spilled) {
            state_.dram.take(state_.config.word);
            state_.counters.dram_map_bits += state_.config.word;
        }
        if (g.remaining > 0) continue;
        --loading_;
        attend(g, now);
        turn_ = (turn_ + 1) % groups;
    }
}

/// Looks at a group in which something has changed; `attention` stays up only for what changes later.
bool Loader::attend(Group& g, Cycle now) {
    state_.attention[static_cast<std::size_t>(g.index)] = 0;
    bool progress = advance_oldest(state_, g);
    progress |= finish_loaded(g, now);
    count_occupancy(g, now);
    if (progress) state_.wake_group(g, now);
    return progress;
}

/// Opens windows whose last word is written, and begins the next load where it fits.
bool Loader::finish_loaded(Group& g, Cycle now) {
    bool progress = false;
    while (true) {
        if (g.remaining < 0) {
            if (!begin(g, now)) return progress;
            progress = true;
            if (g.remaining > 0) ++loading_;
        }
        if (g.remaining > 0) return progress;
        scoreboard_.open(g, g.loaded, now);
        if (state_.trace.on(now))
            state_.trace.add({now, Event::load, state_.stage, g.index, state_.stage_window(g, g.loaded), 0, -1,
                              g.end[static_cast<std::size_t>(g.loaded)], -1});
        ++g.loaded;
        g.remaining = -1;
        progress = true;
        advance_oldest(state_, g);
    }
}

/// Begins to load the next window, where it may be loaded.
bool Loader::begin(Group& g, Cycle now) {
    const auto next = static_cast<std::size_t>(g.loaded);
    const bool another = next == g.windows.size();
    const bool possible = another ? strip_fits(g) : window_fits(g);
    const int window = another ? state_.next_window : g.windows[next];
    const bool waits = possible && state_.layer.last_read(window) > state_.here;  // T30
    if (waits != g.waits) state_.wake_group(g, now);
    g.waits = waits;
    if (!possible || waits) return false;
    if (state_.layer.first_read(window) < state_.gone) throw std::logic_error("a window reads pixels that are gone");
    if (another) {
        take_strip(state_, g);
        if (state_.next_window == state_.layer.plan().windows()) state_.wake_all(now);
    }
    g.remaining = g.end[next] - (next > 0 ? g.end[next - 1] : 0);
    if (state_.streams_operand() && state_.layer.plan().spilled_in) {  // T18
        const std::int64_t bits = std::int64_t{state_.layer.patch_words(window)} * state_.config.word;
        state_.dram.take(bits);
        state_.counters.dram_map_bits += bits;
    }
    return true;
}

/// T20: whether a group may have another window.
bool Loader::has_place(const Group& g) const {
    return g.loaded <= g.oldest + state_.config.depth && g.loaded - g.retired < state_.ring_size();
}

/// T19, T20: whether a group's next window may be loaded.
bool Loader::window_fits(const Group& g) const {
    const auto next = static_cast<std::size_t>(g.loaded);
    const int held_from = g.begin[g.oldest < g.loaded ? static_cast<std::size_t>(g.oldest) : next];
    return has_place(g) && g.end[next] - held_from <= state_.config.slot_words;
}

/// T5, T19, T20: whether a group that has loaded all of its windows may take the next strip.
bool Loader::strip_fits(const Group& g) const {
    const int left = state_.layer.plan().windows() - state_.next_window;
    if (left == 0 || !has_place(g)) return false;
    if (left < state_.plan.groups && g.loaded > g.oldest + 1) return false;
    const int held = g.oldest < g.loaded ? g.end.back() - g.begin[static_cast<std::size_t>(g.oldest)] : 0;
    const int words = state_.streams_operand() ? 0 : state_.layer.patch_words(state_.next_window);
    return held + words <= state_.config.slot_words && neuron_map_has_room(state_);
}

/// T29: lets the groups help that have loaded all of their windows.
bool Loader::help_groups(Cycle now) {
    if (!help_.anything()) return false;
    bool progress = false;
    for (Group& g : state_.groups) {
        if (g.loaded < static_cast<int>(g.windows.size()) || !has_place(g) || !help_.operate(g, now)) continue;
        state_.wake_group(g, now);
        attend(g, now);
        progress = true;
    }
    return progress;
}

/// Patch words that a group holds, from this cycle on.
void Loader::count_occupancy(Group& g, Cycle now) {
    state_.counters.slot_word_cycles += g.held * (now - g.held_since);
    g.held_since = now;
    g.held = 0;
    if (g.oldest >= g.loaded) return;
    g.held = g.end[static_cast<std::size_t>(g.loaded - 1)] - g.begin[static_cast<std::size_t>(g.oldest)];
    state_.counters.slot_words_peak = std::max<std::int64_t>(state_.counters.slot_words_peak, g.held);
}

}  // namespace o3bnn::accel
