// The module o3bnn._simulator. Arrays come from a validated network and mapping; their sizes are checked here once
// more, because memory safety rests on them.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "accel/machine.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace o3bnn::accel {
namespace {

template <class T, std::size_t Dimensions>
using Array = nb::ndarray<T, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;
template <class T>
using Owned = nb::ndarray<nb::numpy, T>;

void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

template <class Source>
auto copy_of(const Source& array) -> std::vector<std::remove_const_t<std::remove_pointer_t<decltype(array.data())>>> {
    return {array.data(), array.data() + array.size()};
}

template <class T>
Owned<T> array_of(std::vector<T>&& values, const std::vector<std::size_t>& shape) {
    auto* held = new std::vector<T>(std::move(values));
    const nb::capsule owner(held, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return Owned<T>(held->data(), shape.size(), shape.data(), owner);
}

/// What Python builds up, stage by stage.
struct Builder {
    Config config;
    int images = 1;
    std::vector<StagePlan> stages;
};

using Pair = std::array<int, 2>;
using Sizes = std::array<int, 3>;

bool between(int value, int low, int high) { return value >= low && value <= high; }

void check_config(const Config& c) {
    require(between(c.pes, 1, 1 << 14) && between(c.word, 1, 1 << 12), "pes or word out of range");
    require(between(c.stations, 1, 1 << 8) && between(c.latency, 1, kIssueRing) && between(c.depth, 1, 1 << 10),
            "stations, latency or depth out of range");
    require(c.bounds_words >= 1 && c.loader_words >= 1 && c.slot_words >= 1, "a width is not positive");
    require(c.dram_bits >= 1 && c.dram_latency >= 0 && c.burst_words >= 1 && c.stream_words >= 0, "DRAM out of range");
}

Config make_config(const std::array<int, 8>& sizes, const std::array<bool, 6>& switches,
                   const std::array<int, 4>& memory) {
    Config c;
    c.pes = sizes[0], c.word = sizes[1], c.stations = sizes[2], c.latency = sizes[3], c.depth = sizes[4];
    c.bounds_words = sizes[5], c.loader_words = sizes[6], c.slot_words = sizes[7];
    c.speculate = switches[0], c.lockstep = switches[1], c.prune = switches[2], c.round_robin = switches[3],
    c.sharp = switches[4], c.help = switches[5];
    c.dram_bits = memory[0], c.dram_latency = memory[1], c.burst_words = memory[2], c.stream_words = memory[3];
    check_config(c);
    return c;
}

void check_geometry(const StagePlan& s) {
    for (const int size : {s.in_rows, s.in_columns, s.in_channels, s.rows, s.columns, s.channels, s.kernel.rows,
                           s.kernel.columns, s.stride.rows, s.stride.columns, s.pool.rows, s.pool.columns,
                           s.pool_stride.rows, s.pool_stride.columns, s.groups, s.edge_words})
        require(between(size, 1, 1 << 24), "a size is out of range");
    require(s.top >= 0 && s.left >= 0 && between(s.planes, 1, 16), "padding or planes out of range");
    require(std::int64_t{s.images} * s.in_rows * s.in_columns * s.in_channels <= 1 << 27, "the input map is too large");
    require(std::int64_t{s.images} * s.rows * s.columns * s.channels <= 1 << 27, "the output map is too large");
    require(s.in_channels % s.groups == 0 && s.channels % s.groups == 0, "groups do not divide the channels");
    require(s.pool.rows <= s.rows && s.pool.columns <= s.columns, "the pool does not fit");
}

void add_stage(Builder& builder, const Sizes& in, const Sizes& conv, const std::array<Pair, 5>& shape, int groups,
               int planes, int edge_words, const std::array<bool, 4>& flags, std::int64_t image_places,
               const Array<const Word, 1>& weights,
               const Array<const Word, 2>& exists, const Array<const std::int64_t, 2>& thresholds,
               const Array<const std::uint8_t, 1>& decisive, const Array<const int, 1>& class_map) {
    StagePlan s;
    s.in_rows = in[0], s.in_columns = in[1], s.in_channels = in[2];
    s.rows = conv[0], s.columns = conv[1], s.channels = conv[2];
    s.kernel = {shape[0][0], shape[0][1]};
    s.stride = {shape[1][0], shape[1][1]};
    s.top = shape[2][0], s.left = shape[2][1];
    s.pool = {shape[3][0], shape[3][1]};
    s.pool_stride = {shape[4][0], shape[4][1]};
    s.groups = groups, s.planes = planes, s.edge_words = edge_words;
    s.images = builder.images;
    s.image_places = image_places;
    s.output = flags[0], s.spilled_in = flags[1], s.spilled_out = flags[2], s.single = flags[3];
    check_geometry(s);
    require(image_places >= 0 && (image_places == 0 || (builder.stages.empty() && !flags[1])),
            "places of an image are out of range");
    require(!s.single || (s.windows() == 1 && s.positions() == 1 && planes == 1), "weights are used more than once");
    const auto limbs = static_cast<std::size_t>(builder.config.limbs());
    const auto channels = static_cast<std::size_t>(s.channels), words = static_cast<std::size_t>(edge_words);
    require((s.in_channels / groups) * static_cast<std::int64_t>(s.kernel.rows) * s.kernel.columns <=
                std::int64_t{edge_words} * builder.config.word,
            "the edge words do not hold the kernel");
    require(weights.size() == channels * words * limbs, "weights have another size");
    require(exists.shape(0) >= 1 && exists.shape(1) == words * limbs, "edge masks have another shape");
    require(thresholds.shape(0) == exists.shape(0) && thresholds.shape(1) == channels, "thresholds have another shape");
    require(decisive.size() == channels, "decisive bits have another size");
    require(class_map.size() == static_cast<std::size_t>(s.rows) * static_cast<std::size_t>(s.columns),
            "the class map has another size");
    s.weights = copy_of(weights), s.exists = copy_of(exists), s.thresholds = copy_of(thresholds);
    s.decisive = copy_of(decisive), s.class_map = copy_of(class_map);
    for (const int c : s.class_map)
        require(c >= 0 && static_cast<std::size_t>(c) < exists.shape(0), "a border class is out of range");
    if (!builder.stages.empty()) {
        const StagePlan& last = builder.stages.back();
        require(!last.output && std::int64_t{last.windows()} * last.channels ==
                                    std::int64_t{s.images} * s.in_rows * s.in_columns * s.in_channels,
                "the stage does not fit its input");
    }
    builder.stages.push_back(std::move(s));
}

void add_pass(Builder& builder, int groups, const Array<const int, 2>& channels, bool resident, int strip,
              int neuron_map_rows) {
    require(!builder.stages.empty(), "a pass needs a stage");
    StagePlan& stage = builder.stages.back();
    PassPlan pass;
    pass.groups = groups;
    pass.lanes = static_cast<int>(channels.shape(0));
    pass.slots = static_cast<int>(channels.shape(1));
    pass.channels = copy_of(channels);
    pass.resident = resident;
    pass.strip = strip;
    pass.neuron_map_rows = neuron_map_rows;
    require(strip >= 1 && neuron_map_rows >= 0, "strip or neuron map out of range");
    require(
        groups >= 1 && pass.lanes >= 1 && pass.slots >= 1 && std::int64_t{groups} * pass.lanes <= builder.config.pes,
        "groups and lanes do not fit the PEs");
    for (const int c : pass.channels) require(between(c, -1, stage.channels - 1), "a channel is out of range");
    stage.passes.push_back(std::move(pass));
}

nb::dict to_dict(const Counters& c) {
    nb::dict d;
    const std::pair<const char*, std::int64_t> values[] = {{"cycles", c.cycles},
                                                           {"passes", c.passes},
                                                           {"useful_words", c.useful_words},
                                                           {"overrun_words", c.overrun_words},
                                                           {"squashed_words", c.squashed_words},
                                                           {"halo_words", c.halo_words},
                                                           {"dense", c.dense},
                                                           {"evaluated", c.evaluated},
                                                           {"constant", c.constant},
                                                           {"threshold_high", c.high},
                                                           {"threshold_low", c.low},
                                                           {"pooling", c.pooling},
                                                           {"wasted", c.wasted},
                                                           {"neurons", c.neurons},
                                                           {"squashed_neurons", c.squashed_neurons},
                                                           {"windows", c.windows},
                                                           {"slot_writes", c.slot_writes},
                                                           {"map_reads", c.map_reads},
                                                           {"map_write_bits", c.map_write_bits},
                                                           {"weight_writes", c.weight_writes},
                                                           {"dram_weight_bits", c.dram_weight_bits},
                                                           {"dram_map_bits", c.dram_map_bits},
                                                           {"station_cycles", c.station_cycles},
                                                           {"slot_word_cycles", c.slot_word_cycles},
                                                           {"slot_words_peak", c.slot_words_peak}};
    for (const auto& [name, value] : values) d[name] = value;
    d["stalls"] = std::vector<std::int64_t>(c.stalls.begin(), c.stalls.end());
    d["channel_words"] = c.channel_words;
    return d;
}

nb::tuple run(const Builder& builder, const Array<const std::uint16_t, 1>& image, Cycle first, Cycle last,
              std::size_t limit) {
    require(!builder.stages.empty() && builder.stages.back().output, "there is no output stage");
    const StagePlan& stage = builder.stages.front();
    const auto pixels_of_all = static_cast<std::size_t>(builder.images) * static_cast<std::size_t>(stage.in_rows) *
                               static_cast<std::size_t>(stage.in_columns) * static_cast<std::size_t>(stage.in_channels);
    require(image.size() == pixels_of_all, "the image has another size");
    const Map pixels = copy_of(image);
    Result result;
    {
        const nb::gil_scoped_release unlocked;
        Trace trace;
        trace.first = first, trace.last = last, trace.limit = limit;
        result = Machine(builder.config, builder.stages).run(pixels, trace);
    }
    nb::list maps, counters;
    for (const Map& map : result.maps)
        maps.append(array_of(std::vector<std::uint8_t>(map.begin(), map.end()), {map.size()}));
    for (const Counters& c : result.counters) counters.append(to_dict(c));
    std::vector<std::int64_t> events;
    for (const TraceEvent& e : result.events)
        for (const std::int64_t v : {e.cycle, static_cast<std::int64_t>(e.kind), std::int64_t{e.stage},
                                     std::int64_t{e.pe}, std::int64_t{e.window}, std::int64_t{e.position},
                                     std::int64_t{e.channel}, std::int64_t{e.value}, e.neuron})
            events.push_back(v);
    const std::size_t count = result.events.size();
    return nb::make_tuple(maps, result.sums, counters, array_of(std::move(events), {count, 9}));
}

}  // namespace
}  // namespace o3bnn::accel

NB_MODULE(_simulator, m) {
    using namespace o3bnn::accel;
    nb::exception<Deadlock>(m, "Deadlock", PyExc_RuntimeError);
    nb::class_<Builder>(m, "Machine")
        .def(
            "__init__",
            [](Builder* b, const std::array<int, 8>& sizes, const std::array<bool, 6>& switches,
               const std::array<int, 4>& memory, int images) {
                require(between(images, 1, 1 << 10), "images out of range");
                new (b) Builder{make_config(sizes, switches, memory), images, {}};
            },
            "sizes"_a, "switches"_a, "memory"_a, "images"_a)
        .def("add_stage", &add_stage, nb::kw_only(), "in_shape"_a, "conv_shape"_a, "shape"_a, "groups"_a, "planes"_a,
             "edge_words"_a, "flags"_a, "image_places"_a, "weights"_a.noconvert(), "exists"_a.noconvert(),
             "thresholds"_a.noconvert(),
             "decisive"_a.noconvert(), "class_map"_a.noconvert())
        .def("add_pass", &add_pass, nb::kw_only(), "groups"_a, "channels"_a.noconvert(), "resident"_a, "strip"_a,
             "neuron_map_rows"_a)
        .def("run", &run, nb::kw_only(), "image"_a.noconvert(), "first"_a, "last"_a, "limit"_a);
}
