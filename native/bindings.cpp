// The module o3bnn._native. Arrays come from a validated network; their shapes are checked here once more, because
// memory safety rests on them. Signatures are documented in src/o3bnn/_native.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "dispatch.hpp"
#include "engine/engine.hpp"
#include "engine/roofline.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace o3bnn {
namespace {

constexpr std::size_t kMaxElements = std::size_t{1} << 27;

template <class T, std::size_t Dimensions>
using Array = nb::ndarray<T, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;
template <std::size_t Size>
using Sizes = std::array<std::size_t, Size>;

void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

Shape shape_of(const Sizes<3>& sizes) {
    for (const std::size_t size : sizes) require(size >= 1 && size <= kMaxElements, "a map has a side out of range");
    require(sizes[0] <= kMaxElements / sizes[1] && sizes[0] * sizes[1] <= kMaxElements / sizes[2],
            "a map is too large");
    return {sizes[0], sizes[1], sizes[2]};
}

Extent extent_of(const Sizes<2>& sizes) {
    require(sizes[0] >= 1 && sizes[1] >= 1 && std::max(sizes[0], sizes[1]) <= kMaxElements,
            "an extent is out of range");
    return {sizes[0], sizes[1]};
}

template <class T, class... Properties>
std::vector<std::remove_const_t<T>> copy_of(const nb::ndarray<T, Properties...>& array) {
    return {array.data(), array.data() + array.size()};
}

template <class T>
void require_shape(const Array<T, 2>& array, std::size_t rows, std::size_t columns, const char* what) {
    require(array.shape(0) == rows && array.shape(1) == columns, what);
}

Plan make_plan(const Sizes<3>& image, const Array<const std::int16_t, 1>& table, bool binary_input) {
    require(table.size() == 256, "the input table does not have 256 entries");
    Plan plan;
    plan.image = shape_of(image);
    plan.binary_input = binary_input;
    std::copy_n(table.data(), 256, plan.table);
    return plan;
}

std::size_t elements_so_far(const Plan& plan) {
    if (plan.stages.empty()) return plan.image.elements();
    const StageSpec& last = plan.stages.back();
    return ((last.conv.height - last.pool_size.rows) / last.pool_stride.rows + 1) *
           ((last.conv.width - last.pool_size.columns) / last.pool_stride.columns + 1) * last.conv.channels;
}

void add_stage(Plan& plan, const Sizes<3>& in, const Sizes<3>& conv, const Sizes<2>& kernel, const Sizes<2>& stride,
               const Sizes<2>& padding, std::size_t groups, const Sizes<2>& pool_size, const Sizes<2>& pool_stride,
               bool integer_input, const std::string& method, const std::vector<std::size_t>& checks,
               std::int32_t magnitude, const Array<const Word, 2>& weights,
               const Array<const std::int32_t, 2>& thresholds, const Array<const std::int8_t, 2>& constant,
               const Array<const std::uint8_t, 1>& decisive, const Array<const std::int32_t, 2>& class_map,
               const Array<const Word, 2>& exists) {
    StageSpec spec;
    spec.in = shape_of(in);
    spec.conv = shape_of(conv);
    spec.kernel = extent_of(kernel);
    spec.stride = extent_of(stride);
    spec.top = padding[0];
    spec.left = padding[1];
    require(std::max(padding[0], padding[1]) <= kMaxElements, "a padding is out of range");
    spec.groups = groups;
    spec.pool_size = extent_of(pool_size);
    spec.pool_stride = extent_of(pool_stride);
    spec.integer_input = integer_input;
    spec.method = find_method(method);
    spec.checks = checks;
    spec.magnitude = magnitude;

    const std::size_t channels = spec.conv.channels, classes = exists.shape(0);
    require(groups >= 1 && spec.in.channels % groups == 0 && channels % groups == 0,
            "groups do not divide the channels");
    require(spec.pool_size.rows <= spec.conv.height && spec.pool_size.columns <= spec.conv.width,
            "the pool does not fit");
    require(spec.in.elements() == elements_so_far(plan), "the stage does not fit its input");
    require(integer_input == (plan.stages.empty() && !plan.binary_input), "the stage reads operands of another kind");
    require(spec.kernel.rows <= kMaxElements / spec.kernel.columns &&
                spec.kernel.rows * spec.kernel.columns <= kMaxElements / (spec.in.channels / groups),
            "the kernel is too large");
    const std::size_t words = word_count(spec.kernel.rows * spec.kernel.columns * (spec.in.channels / groups));
    for (std::size_t i = 0; i < checks.size(); ++i)
        require(checks[i] > (i > 0 ? checks[i - 1] : 0) && checks[i] < words,
                "checks do not increase inside the patch");
    require(classes >= 1, "there is no border class");
    require_shape(weights, channels, words, "weights have another shape");
    require_shape(thresholds, classes, channels, "thresholds have another shape");
    require_shape(constant, classes, channels, "constants have another shape");
    require(decisive.size() == channels, "decisive bits have another shape");
    require_shape(class_map, spec.conv.height, spec.conv.width, "the class map has another shape");
    require_shape(exists, classes, words, "edge masks have another shape");
    spec.weights = copy_of(weights);
    spec.thresholds = copy_of(thresholds);
    spec.constant = copy_of(constant);
    spec.decisive = copy_of(decisive);
    spec.class_map = copy_of(class_map);
    spec.exists = copy_of(exists);
    for (const std::int32_t c : spec.class_map)
        require(c >= 0 && static_cast<std::size_t>(c) < classes, "a border class is out of range");
    plan.stages.push_back(std::move(spec));
}

void set_output(Plan& plan, std::size_t features, const Array<const Word, 2>& weights) {
    require(features == elements_so_far(plan), "the output stage does not fit its input");
    require(!plan.stages.empty() || plan.binary_input, "the output stage reads bits");
    require_shape(weights, weights.shape(0), word_count(features), "weights have another shape");
    plan.output_rows = copy_of(weights);
    plan.features = features;
    plan.classes = weights.shape(0);
}

std::vector<std::vector<std::string>> stage_methods(const Plan& plan, const std::string& isa) {
    std::vector<std::vector<std::string>> names;
    for (const StageSpec& spec : plan.stages) {
        names.emplace_back();
        for (const Method method : offered_methods(spec, find_isa(isa))) names.back().emplace_back(method_name(method));
    }
    return names;
}

using Images = Array<const std::uint8_t, 4>;

void check_images(const Engine& engine, const Images& images) {
    const Shape& shape = engine.image();
    require(images.shape(1) == shape.height && images.shape(2) == shape.width && images.shape(3) == shape.channels,
            "images have another shape");
}

void sums(const Engine& engine, const Images& images, const Array<std::int32_t, 2>& out) {
    check_images(engine, images);
    require(out.shape(0) == images.shape(0) && out.shape(1) == engine.classes(), "out has another shape");
    const nb::gil_scoped_release unlocked;
    engine.sums(images.data(), images.shape(0), out.data());
}

void activations(const Engine& engine, const Images& images, const std::vector<Array<std::uint8_t, 4>>& maps) {
    check_images(engine, images);
    require(maps.size() == engine.stages().size(), "there is not one map for each stage");
    std::vector<std::uint8_t*> data;
    for (std::size_t i = 0; i < maps.size(); ++i) {
        const Shape& out = engine.stages()[i].out;
        const bool fits = maps[i].shape(0) == images.shape(0) && maps[i].shape(1) == out.height &&
                          maps[i].shape(2) == out.width && maps[i].shape(3) == out.channels;
        require(fits, "a map has another shape");
        data.push_back(maps[i].data());
    }
    const nb::gil_scoped_release unlocked;
    engine.activations(images.data(), images.shape(0), data);
}

/// Per stage: evaluated, constant, threshold_high, threshold_low and pooling edges.
using StageCounts = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>;

std::vector<StageCounts> profile(const Engine& engine, const Images& images, std::size_t word, bool sharp) {
    check_images(engine, images);
    require(word >= 1 && word <= kMaxElements, "the edge word width is out of range");
    std::vector<EdgeCounts> counts;
    {
        const nb::gil_scoped_release unlocked;
        counts = engine.profile(images.data(), images.shape(0), word, sharp ? Bounds::sharp : Bounds::simple);
    }
    std::vector<StageCounts> result;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const Stage& stage = engine.stages()[i];
        const std::uint64_t constant = stage.constant_edges * images.shape(0);
        const std::uint64_t pooling = stage.dense_edges * images.shape(0) - constant - counts[i].visited;
        result.emplace_back(counts[i].evaluated, constant, counts[i].threshold_high, counts[i].threshold_low, pooling);
    }
    return result;
}

void stage_seconds(const Engine& engine, const Images& images, const Array<double, 2>& out) {
    check_images(engine, images);
    require(out.shape(0) == images.shape(0) && out.shape(1) == engine.stages().size() + 1, "out has another shape");
    const nb::gil_scoped_release unlocked;
    engine.stage_seconds(images.data(), images.shape(0), out.data());
}

std::vector<std::string> kernel_names(const Engine& engine) {
    std::vector<std::string> names;
    for (const Stage& stage : engine.stages()) names.push_back(stage.kernel_name);
    return names;
}

std::vector<std::uint64_t> dense_edges(const Engine& engine) {
    std::vector<std::uint64_t> edges;
    for (const Stage& stage : engine.stages()) edges.push_back(stage.dense_edges);
    return edges;
}

}  // namespace
}  // namespace o3bnn

NB_MODULE(_native, m) {
    using namespace o3bnn;
    m.def("available_isas", &available_isas);
    nb::class_<Plan>(m, "Plan")
        .def(
            "__init__",
            [](Plan* plan, const Sizes<3>& image, const Array<const std::int16_t, 1>& table, bool binary_input) {
                new (plan) Plan(make_plan(image, table, binary_input));
            },
            "image"_a, "table"_a, "binary_input"_a)
        .def("add_stage", &add_stage, nb::kw_only(), "in_shape"_a, "conv_shape"_a, "kernel"_a, "stride"_a, "padding"_a,
             "groups"_a, "pool_size"_a, "pool_stride"_a, "integer_input"_a, "method"_a, "checks"_a, "magnitude"_a,
             "weights"_a.noconvert(), "thresholds"_a.noconvert(), "constant"_a.noconvert(), "decisive"_a.noconvert(),
             "class_map"_a.noconvert(), "exists"_a.noconvert())
        .def("set_output", &set_output, "features"_a, "weights"_a.noconvert());
    m.def("stage_methods", &stage_methods, "plan"_a, "isa"_a);
    m.def(
        "roofline",
        [](const std::string& isa) {
            const nb::gil_scoped_release unlocked;
            return roofline(isa);
        },
        "isa"_a);
    nb::class_<Engine>(m, "Engine")
        .def(
            "__init__",
            [](Engine* engine, const Plan& plan, const std::string& isa, std::size_t threads,
               std::uint64_t shared_edges) {
                require(plan.classes >= 1, "the plan has no output stage");
                require(threads >= 1, "an engine needs a thread");
                new (engine) Engine(plan, find_isa(isa), threads, shared_edges);
            },
            "plan"_a, "isa"_a, "threads"_a, "shared_edges"_a)
        .def("sums", &sums, "images"_a.noconvert(), "out"_a.noconvert())
        .def("activations", &activations, "images"_a.noconvert(), "maps"_a.noconvert())
        .def("profile", &profile, "images"_a.noconvert(), "word"_a, "sharp"_a)
        .def("stage_seconds", &stage_seconds, "images"_a.noconvert(), "out"_a.noconvert())
        .def("kernel_names", &kernel_names)
        .def("dense_edges", &dense_edges);
}
