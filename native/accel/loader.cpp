#include "accel/units.hpp"

namespace o3bnn::accel {

bool Loader::operate(Cycle now) {
    bool progress = false;
    for (Group& g : state_.groups)
        if (g.attention) progress |= attend(g, now);
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
    g.attention = false;
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
        scoreboard_.open(g, g.loaded);
        if (state_.trace.on(now))
            state_.trace.add({now, Event::load, state_.stage, g.index, state_.stage_window(g, g.loaded), 0, -1,
                              g.end[static_cast<std::size_t>(g.loaded)], -1});
        ++g.loaded;
        g.remaining = -1;
        progress = true;
        advance_oldest(state_, g);
    }
}

/// T19, T20: whether the next window may be loaded.
bool Loader::begin(Group& g, Cycle now) {
    const int next = g.loaded;
    if (next > g.oldest + state_.config.depth || next - g.retired >= state_.ring_size()) return false;
    const auto w = static_cast<std::size_t>(next);
    if (!image_here(g, now) || (w == g.windows.size() && !another(g, now))) return false;
    const int held_from = g.oldest < next ? g.begin[static_cast<std::size_t>(g.oldest)] : g.begin[w];
    if (g.end[w] - held_from > state_.config.slot_words) return false;
    g.remaining = g.end[w] - (next > 0 ? g.end[w - 1] : 0);
    return true;
}

/// T30: whether all that the next window reads has come.
bool Loader::image_here(Group& g, Cycle now) {
    const auto next = static_cast<std::size_t>(g.loaded);
    const int window = next < g.windows.size() ? g.windows[next] : state_.next_window;
    const bool waits = window < state_.layer.plan().windows() && state_.layer.last_read(window) > state_.here;
    if (waits != g.waits) state_.wake_group(g, now);
    g.waits = waits;
    return !waits;
}

/// T5, T29: gives a group that has loaded all of its windows another strip, or a part of another group's window.
bool Loader::another(Group& g, Cycle now) {
    const int next = g.loaded, windows = state_.layer.plan().windows();
    if (state_.next_window < windows) {
        const int held = g.oldest < next ? g.end.back() - g.begin[static_cast<std::size_t>(g.oldest)] : 0;
        const int words = state_.streams_operand() ? 0 : state_.layer.patch_words(state_.next_window);
        const bool last_round = windows - state_.next_window < state_.plan.groups;
        if (last_round && next > g.oldest + 1) return false;
        if (held + words > state_.config.slot_words || !neuron_map_has_room(state_)) return false;
        take_strip(state_, g);
        if (state_.next_window == windows) state_.wake_all(now);
        return true;
    }
    if (!help_.possible() || g.oldest < next) return false;
    g.attention = state_.retired < state_.taken;  // there may be something to do in the next cycle
    return help_.operate(g, now);
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
