#pragma once

#include <cstddef>

#include "engine/core/tensor.h"

namespace subpix::engine::ops {

/// Every op passes its result through here: the debugging aids of engine/core/debug.h hook in. With
/// SUBPIX_NANCHECK=1 a result that is not finite throws Error with the op's name and the shape.
const Tensor& observe(const char* op, const Tensor& result);

/// The same for what node `node` returned for its argument `argument` in backward().
void observe_gradient(const char* node, std::size_t argument, const Tensor& gradient);

}  // namespace subpix::engine::ops
