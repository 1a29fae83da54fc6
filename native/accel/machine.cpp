#include "accel/machine.hpp"

namespace o3bnn::accel {
namespace {

constexpr Cycle kPatience = 500;  ///< cycles without progress after which the machine is dead

std::size_t at(int index) { return static_cast<std::size_t>(index); }

WeightStream make_stream(const Config& config, const std::vector<StagePlan>& stages, Dram& dram) {
    WeightStream stream(config, dram);
    for (const StagePlan& stage : stages)
        for (const PassPlan& pass : stage.passes) stream.add(pass, stage.edge_words, stage.single);
    return stream;
}

/// Edges of all neurons that a window reads, of the constant ones (where machines prune) and of those never evaluated.
void count_edges(const Layer& layer, const Config& config, const std::vector<std::uint8_t>& evaluated,
                 Counters& counters) {
    const StagePlan& plan = layer.plan();
    for (int y = 0; y < plan.images * plan.rows; ++y) {
        for (int x = 0; x < plan.columns; ++x) {
            if (!layer.read(y % plan.rows, x)) continue;
            const int border = layer.border(y, x);
            counters.dense += layer.edges(border) * plan.channels;
            for (int c = 0; c < plan.channels; ++c) {
                if (evaluated[at((y * plan.columns + x) * plan.channels + c)] >= kDecidedNow) continue;
                const bool constant = config.prune && layer.constant(border, c) >= 0;
                (constant ? counters.constant : counters.pooling) += layer.edges(border);
            }
        }
    }
}

/// T5: what happened to neurons in this cycle is seen by other strips from the next one on.
void publish(State& state) {
    for (const auto& [neuron, what] : state.news) {
        std::uint8_t& known = state.known[neuron];
        const bool decided = what >= kKnownSilent;
        if (decided || known == (what == kInFlight ? kUnknown : kInFlight)) known = what;
    }
    state.news.clear();
}

}  // namespace

Machine::Machine(const Config& config, const std::vector<StagePlan>& stages) : config_(config), stages_(stages) {
    for (const StagePlan& stage : stages_) layers_.emplace_back(stage, config_);
}

Result Machine::run(const Map& image, Trace trace) const {
    Result result;
    Dram dram(config_.dram_bits);
    WeightStream stream = make_stream(config_, stages_, dram);
    Cycle now = 0;
    std::size_t pass = 0;
    std::int64_t next_neuron = 0;
    result.counters.resize(stages_.size());
    std::vector<Pe> pes(at(config_.pes));
    Map in = image;
    for (std::size_t s = 0; s < stages_.size(); ++s) {
        const StagePlan& plan = stages_[s];
        const PackedMap operand = layers_[s].pack(in);
        Counters& counters = result.counters[s];
        counters.channel_words.assign(at(plan.channels), 0);
        std::vector<std::uint8_t> known(at(plan.images * plan.rows * plan.columns) * at(plan.channels), 0);
        Map out(at(plan.windows()) * at(plan.channels), 0);
        result.sums.assign(plan.output ? at(plan.images * plan.channels) : 0, 0);
        for (const PassPlan& pass_plan : plan.passes) {
            State state{config_, layers_[s], pass_plan,   stream, dram,        counters, trace, static_cast<int>(s),
                        pass,    operand,    out,         result.sums, known, next_neuron, pes};
            stream.start(pass, counters);
            prepare(state, now);
            run_pass(state, now);
            stream.finish(pass++);
            ++counters.passes;
        }
        count_edges(layers_[s], config_, known, counters);
        if (!plan.output) result.maps.push_back(out);
        in = std::move(out);
    }
    result.events = std::move(trace.events);
    return result;
}

void Machine::run_pass(State& state, Cycle& now) const {
    Scoreboard scoreboard(state);
    Retire retire(state);
    Decide decide(state, scoreboard);
    Issue issue(state, scoreboard);
    Dispatch dispatch(state, scoreboard);
    Loader loader(state, scoreboard);
    ImageReader image(state);
    const Cycle first = now;
    Cycle last_progress = now;
    for (;; ++now) {
        state.dram.refill();
        bool progress = !state.dram.available() || now < state.busy_until;  // a transfer or a PE's work is under way
        progress |= retire.operate(now);
        for (std::size_t p = 0; p < state.pes.size(); ++p) {
            Cycle& wake = state.wake[p];
            if (now < wake) continue;
            Pe& pe = state.pes[p];
            if (now < pe.since) {  // it has run ahead of what woke it
                wake = pe.since;
                continue;
            }
            catch_up(state, pe, now);
            progress |= decide.operate(pe, now);
            progress |= issue.operate(pe, now);
            const Turn turn = config_.lockstep ? Turn::nothing : dispatch.operate(pe, now);
            progress |= turn == Turn::dispatched;
            wake = issue.run_ahead(pe, now, turn);
            state.busy_until = std::max(state.busy_until, pe.running != nullptr ? wake : pe.since);
        }
        if (config_.lockstep)
            for (Group& g : state.groups) progress |= dispatch.operate(g, now);
        publish(state);
        progress |= loader.operate(now);
        progress |= image.operate(now);
        progress |= state.weights.operate(now, [&](std::size_t pass, int lane) {
            if (pass != state.pass) return;
            state.weights_here = state.weights.all_here(pass);
            state.wake_lane(lane, now);
        });
        if (retire.finished()) break;
        if (progress) last_progress = now;
        if (now - last_progress >= kPatience)
            throw Deadlock("no progress for " + std::to_string(kPatience) + " cycles at cycle " + std::to_string(now) +
                           "\n" + describe(state));
    }
    ++now;
    for (Pe& pe : state.pes) catch_up(state, pe, now);
    for (const Group& g : state.groups) state.counters.slot_word_cycles += g.held * (now - g.held_since);
    state.counters.cycles += now - first;
    const int idle = config_.pes - static_cast<int>(state.pes.size());
    state.counters.stalls[kUnmapped] += (now - first) * idle;
}

}  // namespace o3bnn::accel
