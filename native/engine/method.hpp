// Methods: the ways in which a stage's neurons can be evaluated. All give the same bits.
#pragma once

#include <string_view>
#include <vector>

#include "dispatch.hpp"

namespace o3bnn {

struct StageSpec;

enum class Method {
    dense,      ///< every edge, by register tiles
    pooling,    ///< windows of a pool by register tiles and lists: settled channels are left alone
    threshold,  ///< register tiles that stop once all their neurons are decided; looked at after `checks` words
    words,      ///< neuron by neuron, some words at a time, until it is decided
};

const char* method_name(Method method);

/// The method of that name. Throws std::invalid_argument where there is none.
Method find_method(std::string_view name);

/// The methods that an instruction set offers for a stage, in the order of the enumeration.
std::vector<Method> offered_methods(const StageSpec& spec, const Isa& isa);

}  // namespace o3bnn
