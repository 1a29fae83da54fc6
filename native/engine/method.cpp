#include "engine/method.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "engine/stage.hpp"

namespace o3bnn {
namespace {

constexpr Method kMethods[] = {Method::dense, Method::pooling, Method::threshold, Method::words};

bool pools(const StageSpec& spec) {
    return spec.pool_size.rows * spec.pool_size.columns > 1 || spec.pool_stride.rows * spec.pool_stride.columns > 1;
}

bool windows_overlap(const StageSpec& spec) {
    return spec.pool_stride.rows < spec.pool_size.rows || spec.pool_stride.columns < spec.pool_size.columns;
}

bool offers(const StageSpec& spec, const Isa& isa, Method method) {
    switch (method) {
        case Method::dense:
        case Method::words: return true;
        case Method::pooling:
            return !spec.integer_input && isa.binary->pool && spec.groups == 1 && pools(spec) &&
                   !windows_overlap(spec) && spec.weights.size() / spec.conv.channels <= kPoolWords;
        case Method::threshold: return !spec.integer_input && isa.binary->exits;
    }
    return false;
}

}  // namespace

const char* method_name(Method method) {
    switch (method) {
        case Method::dense: return "dense";
        case Method::pooling: return "pooling";
        case Method::threshold: return "threshold";
        case Method::words: return "words";
    }
    return "";
}

Method find_method(std::string_view name) {
    for (const Method method : kMethods) {
        if (name == method_name(method)) return method;
    }
    throw std::invalid_argument("there is no method '" + std::string(name) + "'");
}

std::vector<Method> offered_methods(const StageSpec& spec, const Isa& isa) {
    std::vector<Method> offered;
    std::copy_if(std::begin(kMethods), std::end(kMethods), std::back_inserter(offered),
                 [&](Method method) { return offers(spec, isa, method); });
    return offered;
}

}  // namespace o3bnn
