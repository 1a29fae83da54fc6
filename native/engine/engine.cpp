#include "engine/engine.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <new>

#include "engine/patch.hpp"
#include "engine/team.hpp"

namespace o3bnn {

/// Threads and their memory. They belong to the process that made them: after a fork the child has neither the threads
/// nor the certainty that a lock is free, so it makes workers of its own and leaves the old ones untouched.
struct Engine::Workers {
    explicit Workers(std::size_t threads) : process(getpid()), pool(threads) {}

    const pid_t process;
    Pool pool;
    std::mutex mutex;
    std::vector<std::unique_ptr<Scratch>> idle;
};

/// Scratch memory for as long as one thread takes part in one job.
struct Engine::Session {
    explicit Session(Workers& owner) : workers(owner) {
        {
            const std::lock_guard lock(workers.mutex);
            if (!workers.idle.empty()) {
                scratch = std::move(workers.idle.back());
                workers.idle.pop_back();
            }
        }
        if (!scratch) scratch = std::make_unique<Scratch>();
    }
    ~Session() {
        const std::lock_guard lock(workers.mutex);
        try {
            workers.idle.push_back(std::move(scratch));
        } catch (const std::bad_alloc&) {  // then it is freed
        }
    }

    Workers& workers;
    std::unique_ptr<Scratch> scratch;
};

/// What a forward pass leaves behind: any of them.
struct Engine::Trace {
    std::int32_t* sums = nullptr;            ///< [classes]
    std::uint8_t* const* maps = nullptr;     ///< per stage [out elements]
    const PruneKernels* counting = nullptr;  ///< per stage; null: the engine's own plan, and nothing is counted
    double* seconds = nullptr;               ///< [stages + 1]
    Team* team = nullptr;                    ///< shares the work of each stage; null: this thread does it all
};

namespace {

constexpr std::size_t kPartsPerThread = 4;

/// Parts of about equal work: some of `rows` rows, or channels where there is one position.
std::vector<Part> split(const Stage& stage, std::size_t rows, std::size_t threads) {
    const bool channels = stage.conv.positions() == 1 && stage.groups == 1;
    const std::size_t units = channels ? word_count(stage.conv.channels) : rows;
    const std::size_t count = std::min({units, threads * kPartsPerThread, std::size_t{0xffff}});
    std::vector<Part> parts(count, Part::whole(stage));
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t begin = i * units / count, end = (i + 1) * units / count;
        if (channels) {
            parts[i].channel = begin * kWordBits;
            parts[i].channels_end = std::min(end * kWordBits, stage.conv.channels);
        } else {
            parts[i].row = begin;
            parts[i].rows_end = end;
        }
    }
    return parts;
}

}  // namespace

Engine::Engine(const Plan& plan, const Isa& isa, std::size_t threads, std::uint64_t shared_edges)
    : image_(plan.image),
      binary_input_(plan.binary_input),
      output_(isa.output),
      output_rows_(plan.output_rows),
      features_(plan.features),
      classes_(plan.classes),
      threads_(threads) {
    std::copy_n(plan.table, 256, table_);
    stages_.reserve(plan.stages.size());
    std::uint64_t edges = 0;
    for (const StageSpec& spec : plan.stages) edges += stages_.emplace_back(spec, isa, table_).dense_edges;
    shares_images_ = threads > 1 && edges >= shared_edges;
}

Engine::~Engine() {
    Workers* workers = workers_.load();
    if (workers && workers->process == getpid()) delete workers;
}

Engine::Workers& Engine::workers() const {
    Workers* current = workers_.load();
    while (!current || current->process != getpid()) {
        auto fresh = std::make_unique<Workers>(threads_);
        if (workers_.compare_exchange_strong(current, fresh.get())) return *fresh.release();
    }
    return *current;
}

void Engine::for_each_image(std::size_t n, const std::function<void(std::size_t, Scratch&)>& body) const {
    Workers& shared = workers();
    shared.pool.run(n, [&](ItemQueue& queue) {
        const Session session(shared);
        for (std::size_t image; queue.take(image);) body(image, *session.scratch);
    });
}

void Engine::sums(const std::uint8_t* images, std::size_t n, std::int32_t* out) const {
    if (n < threads_ && shares_images_) return sums_together(images, n, out);
    for_each_image(n, [&](std::size_t image, Scratch& scratch) {
        Trace trace;
        trace.sums = out + image * classes_;
        forward(images + image * image_.elements(), scratch, trace);
    });
}

/// Fewer images than threads: all threads work on one image after the other.
void Engine::sums_together(const std::uint8_t* images, std::size_t n, std::int32_t* out) const {
    Workers& shared = workers();
    Team team;
    shared.pool.run(threads_, [&](ItemQueue& queue) {
        const Session session(shared);
        for (std::size_t item; queue.take(item);) {
            if (item > 0) {
                team.help(*session.scratch);
                continue;
            }
            struct Finish {
                Team& team;
                ~Finish() { team.finish(); }
            } finish{team};
            for (std::size_t image = 0; image < n; ++image) {
                Trace trace;
                trace.sums = out + image * classes_;
                trace.team = &team;
                forward(images + image * image_.elements(), *session.scratch, trace);
            }
        }
    });
}

void Engine::activations(const std::uint8_t* images, std::size_t n, const std::vector<std::uint8_t*>& maps) const {
    for_each_image(n, [&](std::size_t image, Scratch& scratch) {
        std::vector<std::uint8_t*> own(maps);
        for (std::size_t i = 0; i < own.size(); ++i) own[i] += image * stages_[i].out.elements();
        Trace trace;
        trace.maps = own.data();
        forward(images + image * image_.elements(), scratch, trace);
    });
}

std::vector<EdgeCounts> Engine::profile(const std::uint8_t* images, std::size_t n, std::size_t word,
                                        Bounds bounds) const {
    std::vector<EdgeCounts> total(stages_.size());
    std::mutex mutex;
    for_each_image(n, [&](std::size_t image, Scratch& scratch) {
        std::vector<EdgeCounts> counts(stages_.size());
        std::vector<PruneKernels> kernels(stages_.size());
        for (std::size_t i = 0; i < stages_.size(); ++i) {
            kernels[i] = {counting_binary(word, bounds), counting_integer(word, bounds), &counts[i], word,
                          prune_workspace(stages_[i].words, word, bounds)};
        }
        Trace trace;
        trace.counting = kernels.data();
        forward(images + image * image_.elements(), scratch, trace);
        const std::lock_guard lock(mutex);
        for (std::size_t i = 0; i < total.size(); ++i) {
            total[i].visited += counts[i].visited;
            total[i].evaluated += counts[i].evaluated;
            total[i].threshold_high += counts[i].threshold_high;
            total[i].threshold_low += counts[i].threshold_low;
        }
    });
    return total;
}

void Engine::stage_seconds(const std::uint8_t* images, std::size_t n, double* out) const {
    const Session session(workers());
    std::vector<std::int32_t> sums(classes_);
    for (std::size_t image = 0; image < n; ++image) {
        Trace trace;
        trace.sums = sums.data();
        trace.seconds = out + image * (stages_.size() + 1);
        forward(images + image * image_.elements(), *session.scratch, trace);
    }
}

void Engine::forward(const std::uint8_t* image, Scratch& scratch, const Trace& trace) const {
    using Clock = std::chrono::steady_clock;
    Clock::time_point start = Clock::now();
    const auto lap = [&](std::size_t i) {
        if (!trace.seconds) return;
        const Clock::time_point now = Clock::now();
        trace.seconds[i] = std::chrono::duration<double>(now - start).count();
        start = now;
    };
    Operand operand = encode(image, scratch, trace);
    Shape shape = image_;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
        const Stage& stage = stages_[i];
        const bool flattens = stage.in.positions() == 1 && shape.positions() > 1;
        if (flattens && !stage.integer_input) {
            Word* flat = room(scratch.flat, stage.in.words());
            flatten_bits(shape, operand.bits, flat);
            operand.bits = flat;
        }
        if (PaddedMap::suits(stage) && stage.method != Method::words && !trace.counting) {
            Word* padded = room(scratch.padded, PaddedMap(stage).words());
            pad_bits(stage, operand.bits, padded);
            operand.padded = padded;
        }
        Word* out = room(scratch.maps[i % 2], stage.out.words());
        run_stage(i, operand, out, scratch, trace);
        operand = {.bits = out};
        shape = stage.out;
        lap(i);
        if (trace.maps) {
            for (std::size_t pixel = 0, at = 0; pixel < shape.positions(); ++pixel) {
                const Word* bits = out + pixel * shape.pixel_words();
                for (std::size_t c = 0; c < shape.channels; ++c, ++at)
                    trace.maps[i][at] = static_cast<std::uint8_t>(bits[c / kWordBits] >> (c % kWordBits) & 1);
            }
        }
    }
    if (!trace.sums) return;
    Word* flat = room(scratch.flat, word_count(features_));
    flatten_bits(shape, operand.bits, flat);
    output(flat, scratch, trace);
    lap(stages_.size());
}

void Engine::output(const Word* features, Scratch& scratch, const Trace& trace) const {
    const std::size_t words = word_count(features_), parts = trace.team ? std::min(threads_, classes_) : 1;
    const auto part = [&](std::size_t i, Scratch&) {
        const std::size_t begin = i * classes_ / parts, end = (i + 1) * classes_ / parts;
        output_->sums(features, output_rows_.data() + begin * words, words, static_cast<std::int32_t>(features_),
                      end - begin, trace.sums + begin);
    };
    if (trace.team)
        trace.team->phase(parts, part, scratch);
    else
        part(0, scratch);
}

/// The image as bits, integers or octets. Bits go where the first stage's operand lies (its result goes to maps[0]).
Operand Engine::encode(const std::uint8_t* image, Scratch& scratch, const Trace& trace) const {
    if (!binary_input_ && stages_[0].octets && !trace.counting) {
        const OctetForm& form = *stages_[0].octets;
        std::uint8_t* octets = room(scratch.octets, form.map_octets());
        form.encode(image, octets);
        return {.octets = octets};
    }
    if (!binary_input_) {
        std::int16_t* integers = room(scratch.image, image_.elements());
        for (std::size_t i = 0; i < image_.elements(); ++i) integers[i] = table_[image[i]];
        return {.integers = integers};
    }
    Word* bits = room(scratch.maps[1], image_.words());
    std::fill_n(bits, image_.words(), Word{0});
    for (std::size_t pixel = 0; pixel < image_.positions(); ++pixel) {
        Word* words = bits + pixel * image_.pixel_words();
        for (std::size_t c = 0; c < image_.channels; ++c)
            words[c / kWordBits] |= Word{table_[*image++] > 0} << (c % kWordBits);
    }
    return {.bits = bits};
}

void Engine::run_stage(std::size_t index, const Operand& operand, Word* out, Scratch& scratch,
                       const Trace& trace) const {
    const Stage& stage = stages_[index];
    if (trace.counting) return walk_pruning(stage, trace.counting[index], operand, out, scratch);
    if (stage.method == Method::words)
        return walk_pruning(stage, {stage.binary->prune, stage.integer->prune}, operand, out, scratch);
    const bool by_windows = stage.method == Method::pooling;
    const auto walk = by_windows ? walk_windows : walk_dense;
    if (!trace.team) return walk(stage, operand, Part::whole(stage), out, scratch);
    const auto share = [&](std::size_t rows, const auto& run) {
        const std::vector<Part> parts = split(stage, rows, threads_);
        trace.team->phase(parts.size(), [&](std::size_t i, Scratch& own) { run(parts[i], own); }, scratch);
    };
    if (by_windows || !stage.windows_overlap())
        return share(stage.out.height, [&](const Part& part, Scratch& own) { walk(stage, operand, part, out, own); });
    Word* neurons = room(scratch.neurons, stage.conv.words());  // parts of the output would evaluate some of them twice
    share(stage.conv.height, [&](const Part& part, Scratch& own) { walk_neurons(stage, operand, part, neurons, own); });
    share(stage.out.height, [&](const Part& part, Scratch&) { pool_neurons(stage, part, neurons, out); });
}

}  // namespace o3bnn
